"""The settings of gunicorn for a loader in a checkout: `gunicorn -c gunicorn.conf.py wsgi:app`."""

from loader.server.gunicorn_conf import *  # noqa: F403  # gunicorn reads its settings as the names of this file
