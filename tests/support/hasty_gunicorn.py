"""The loader's configuration of gunicorn, with other timings in the worker.

The environment variable HASTE is a JSON object. The path of a constant gets a new value in seconds, and the path of a
function a pause in seconds before each call. Example:
`{"loader.web.guard.CLIENT_SILENCE_SECONDS": 1.0, "loader.unlock.progress.UnlockProgress.reach": 0.2}`.
"""

import json
import os
import pkgutil
import runpy
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

REAL = runpy.run_path("gunicorn.conf.py")
globals().update({name: value for name, value in REAL.items() if not name.startswith("__")})


def post_worker_init(worker: Any) -> None:
    """Change the timings. gunicorn calls this hook in the worker when it has loaded the application."""
    REAL["post_worker_init"](worker)
    for path, seconds in json.loads(os.environ["HASTE"]).items():
        place, _, name = path.rpartition(".")
        owner = pkgutil.resolve_name(place)
        present = getattr(owner, name)
        assert callable(present) or isinstance(present, float | int)
        setattr(owner, name, after_pause(seconds, present) if callable(present) else seconds)


def after_pause(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` with a pause before each call."""

    @wraps(function)
    def paused(*args: Any, **kwargs: Any) -> Any:
        time.sleep(seconds)
        return function(*args, **kwargs)

    return paused
