"""Tests of loader.web: real requests to a real gunicorn, whose counterparts are real processes."""
