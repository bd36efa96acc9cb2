"""Helpers for the tests: processes, engines, images, real servers, and servers that misbehave on purpose."""
