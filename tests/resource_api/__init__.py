"""The tests of the reference Resource API, over HTTP against the real server under gunicorn."""
