"""The WSGI entry point of a checkout: `gunicorn -c gunicorn.conf.py wsgi:app`."""

from loader.server.wsgi import app, application

__all__ = ["app", "application"]
