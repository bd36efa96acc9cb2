"""Tests of `loader.unlock.plan`."""
