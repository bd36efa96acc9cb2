"""The WSGI entry point: `app`, built from the environment.

RESOURCE_API_DATA           the data directory, made by `azaion-resource-api init`
RESOURCE_API_STORAGE        the directory of the objects, if it is another one
RESOURCE_API_TOKEN_SECONDS  how long a token is valid (default 3600)
RESOURCE_API_PROXIES        addresses of proxies whose X-Forwarded-For is believed (default 127.0.0.1,::1)
RESOURCE_API_LOG            the log file, for gunicorn with `gunicorn_conf`; stderr if it is empty
RESOURCE_API_STORE_*        an S3-compatible store, see `storage.s3_settings`
"""

import logging
import os
import sys
from pathlib import Path

from flask import Flask

from resource_api import logs
from resource_api.app import DEFAULT_TOKEN_SECONDS, create_app
from resource_api.client_address import LOOPBACK, ClientAddresses
from resource_api.data_directory import DataDirectory, DataDirectoryError
from resource_api.storage.s3_settings import StoreSettingsError, store_settings

# With this exit code of a worker gunicorn gives up; after any other it starts the next worker, endlessly.
_CANNOT_BOOT = 3


def _app_from_environment() -> Flask:
    """Build the application from the environment. Raises DataDirectoryError and StoreSettingsError."""
    data_dir = os.environ.get("RESOURCE_API_DATA", "")
    if not data_dir:
        raise DataDirectoryError("RESOURCE_API_DATA must name the data directory")
    seconds = os.environ.get("RESOURCE_API_TOKEN_SECONDS", str(DEFAULT_TOKEN_SECONDS))
    if not (seconds.isascii() and seconds.isdigit() and int(seconds) > 0):
        raise DataDirectoryError(f"RESOURCE_API_TOKEN_SECONDS must be a positive whole number, not {seconds!r}")
    try:
        addresses = ClientAddresses(os.environ.get("RESOURCE_API_PROXIES", LOOPBACK))
    except ValueError as error:
        raise DataDirectoryError(f"RESOURCE_API_PROXIES must list addresses or networks: {error}") from error
    storage = os.environ.get("RESOURCE_API_STORAGE", "")
    data = DataDirectory.open(Path(data_dir), Path(storage) if storage else None)
    return create_app(data, int(seconds), addresses, store_settings(os.environ))


# Under gunicorn with `gunicorn_conf` the log is set up already.
if not logging.getLogger().hasHandlers():
    _stderr = logging.StreamHandler()
    _stderr.setFormatter(logs.JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[_stderr])
try:
    app = _app_from_environment()
except (DataDirectoryError, StoreSettingsError, OSError) as error:
    print(f"resource_api: {error}", file=sys.stderr)
    sys.exit(_CANNOT_BOOT)
