"""What the loader needs of its server, gunicorn, beside WSGI."""
