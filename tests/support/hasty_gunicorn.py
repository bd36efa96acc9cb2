"""The loader's configuration of gunicorn, with shorter timeouts in the worker.

The environment variable HASTE is a JSON object from the path of a constant to its new value in seconds. Example:
`{"loader.web.guard.CLIENT_SILENCE_SECONDS": 1.0}`.
"""

import importlib
import json
import os
import runpy
from typing import Any

REAL = runpy.run_path("gunicorn.conf.py")
globals().update({name: value for name, value in REAL.items() if not name.startswith("__")})


def post_worker_init(worker: Any) -> None:
    """Change the constants. gunicorn calls this hook in the worker when it has loaded the application."""
    REAL["post_worker_init"](worker)
    for path, seconds in json.loads(os.environ["HASTE"]).items():
        module, _, constant = path.rpartition(".")
        owner = importlib.import_module(module)
        assert isinstance(getattr(owner, constant), float | int)
        setattr(owner, constant, seconds)
