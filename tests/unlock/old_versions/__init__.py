"""Tests of `loader.unlock.old_versions`."""
