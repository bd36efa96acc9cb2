"""Tests of `loader.unlock.rollback`."""
