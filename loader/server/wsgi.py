"""The WSGI entry point: `app` for gunicorn, and for any other server with one process."""

from __future__ import annotations

import logging.config
import os
import sys

from loader import create_app, logs
from loader.server.memory import keep_freed_memory
from loader.server.one_loader import DirectoryInUse, claim_directories
from loader.settings import BadSettings, Settings

try:
    _settings = Settings.from_env(os.environ)
    claim_directories(_settings, create=True)
    keep_freed_memory()
    logging.config.dictConfig(logs.config(_settings.log_level, _settings.device_name))
    # A warning of a package, such as that TLS to the engine is not verified, is a line of the log too.
    logging.captureWarnings(True)
    app = create_app(_settings)
except (BadSettings, DirectoryInUse) as exc:
    print(exc, file=sys.stderr)
    # Exit with 3, because gunicorn restarts a worker that ends with any other code again and again.
    sys.exit(3)

# uWSGI and mod_wsgi look for this name.
application = app
