"""Tests of `loader.binary_split`."""
