"""Tests of `loader.login_throttle`."""
