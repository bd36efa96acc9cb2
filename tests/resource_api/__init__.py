"""Tests of the reference Resource API, most of them over HTTP against the real server under gunicorn."""
