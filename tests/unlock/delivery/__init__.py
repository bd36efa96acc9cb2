"""Tests of `loader.unlock.delivery`."""
