"""Tests of `loader.docker_engine`."""
