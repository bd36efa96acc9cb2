"""gunicorn configuration that writes each request as one line of JSON to the file that REQUEST_NOTES names.

It writes the line before the application handles the request, so that a test finds the line when it has the response.
An access log would be written after the response, and could be late.
"""

import json
import os
from pathlib import Path
from typing import Any


def pre_request(_worker: Any, request: Any) -> None:
    """Write the line. gunicorn calls this hook when it has read the head of a request."""
    note = {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": dict(request.headers),
    }
    with Path(os.environ["REQUEST_NOTES"]).open("a") as notes:
        notes.write(json.dumps(note) + "\n")
