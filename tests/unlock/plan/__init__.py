"""Tests of `loader.unlock.plan` and `loader.unlock.preview`."""
