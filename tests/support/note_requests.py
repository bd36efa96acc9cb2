"""gunicorn settings for a server under test: each request becomes a line of JSON in the file REQUEST_NOTES.

The line is written before the application sees the request, so whoever got an answer finds it there; an access log
comes after the answer and may be late.
"""

import json
import os
from pathlib import Path
from typing import Any


def pre_request(_worker: Any, request: Any) -> None:
    """gunicorn's hook, called with each request whose head has been read."""
    note = {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": dict(request.headers),
    }
    with Path(os.environ["REQUEST_NOTES"]).open("a") as notes:
        notes.write(json.dumps(note) + "\n")
