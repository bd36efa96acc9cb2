"""Tests of `loader.install`."""
