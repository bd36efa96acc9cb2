"""Tests of `loader.unlock.images`."""
