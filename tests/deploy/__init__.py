"""Tests of the files in deploy/ and of the container image, against real programs."""
