"""Tests of `loader.cli`."""
