"""Tests of `loader.server`."""
