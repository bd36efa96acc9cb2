"""`python -m tests.project.traced_requests`: prints as JSON which functions of the loader an unlock and a load call.

The loader runs in this process, because only its own process can trace it, and the settings come from the environment.
The process is separate from pytest, because its end closes the connections that the loader keeps open to the engine.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from types import FrameType

from flask.testing import FlaskClient

import loader
from loader.settings import Settings
from tests.support.unlocking import PASSWORD

PACKAGE = Path(loader.__file__).parent
UNLOCK_SECONDS = 60.0
# A user that may upload the model, too.
PUBLISHER = "publisher@example.org"
MODEL_SIZE = 5_000_000  # large enough for a model to be split in two parts

Functions = dict[str, list[str]]


class Trace:
    """Records the functions of the loader that are called, by file."""

    def __init__(self) -> None:
        self._called: set[tuple[str, str]] = set()

    def record(self, frame: FrameType, event: str, _: object) -> None:
        """Record one call. `sys.setprofile` takes this method as the profile function."""
        code = frame.f_code
        path = Path(code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            self._called.add((str(path.relative_to(PACKAGE)), f"{code.co_name}:{code.co_firstlineno}"))

    def functions(self) -> Functions:
        """Return the functions of each file; the file's path is relative to `loader/`."""
        files = sorted({file for file, _ in self._called})
        return {file: sorted(function for other, function in self._called if other == file) for file in files}


@contextmanager
def traced(trace: Trace) -> Iterator[None]:
    """Record the calls that this thread makes in the block, and all calls of the threads that the block starts."""
    threading.setprofile(trace.record)
    sys.setprofile(trace.record)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def trace_unlock(client: FlaskClient) -> Functions:
    """Unlock the archive and return the functions that were called until the unlock was ready."""
    trace = Trace()
    with traced(trace):
        accepted = client.post("/unlock", json={"email": PUBLISHER, "password": PASSWORD})
        assert accepted.status_code == HTTPStatus.OK, accepted.text
        for thread in threading.enumerate():
            if thread.name == "unlock":
                thread.join(UNLOCK_SECONDS)
    status = client.get("/unlock/status").json
    assert status is not None
    assert status["state"] == "ready", status
    return trace.functions()


def trace_warm_load(client: FlaskClient) -> Functions:
    """Load a model twice and return the functions that the second load called; its big part is in the cache by then."""
    data = b"x" * MODEL_SIZE
    upload = client.post("/upload/m.onnx", data={"folder": "day", "file": (io.BytesIO(data), "m.onnx")})
    assert upload.status_code == HTTPStatus.OK, upload.text
    trace = Trace()
    request = {"filename": "m.onnx", "folder": "day"}
    assert client.post("/load/m.onnx", json=request).data == data
    with traced(trace):
        assert client.post("/load/m.onnx", json=request).data == data
    return trace.functions()


def main() -> None:
    """Trace both requests and print one JSON object; the load comes second, because it needs the unlock's login."""
    client = loader.create_app(Settings.from_env(os.environ)).test_client()
    print(json.dumps({"unlock": trace_unlock(client), "load": trace_warm_load(client)}))


if __name__ == "__main__":
    main()
