"""Tests of `loader.unlock`."""
