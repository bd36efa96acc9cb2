"""Loads a model to a file: waits for the loader, continues a cut load, does nothing if the model has not changed.

LOADER_URL=http://127.0.0.1:8080 python load_model.py day/model.onnx /run/models/model.onnx
"""

import os
import sys
import time
from pathlib import Path

import requests

URL = os.environ.get("LOADER_URL", "http://127.0.0.1:8080")
SILENCE_SECONDS = 600


def load(model: str, file: Path) -> None:
    part, note = Path(f"{file}.part"), Path(f"{file}.etag")
    part.touch(mode=0o600)
    headers = {"If-None-Match": note.read_text()} if file.exists() and note.exists() else {}
    while True:
        try:
            requests.get(f"{URL}/ready", timeout=SILENCE_SECONDS).raise_for_status()
            with requests.get(f"{URL}/models/{model}", headers=headers, stream=True, timeout=SILENCE_SECONDS) as reply:
                reply.raise_for_status()
                if reply.status_code == requests.codes.not_modified:
                    part.unlink()
                    return
                with part.open("ab" if reply.status_code == requests.codes.partial_content else "wb") as out:
                    size = out.tell() + int(reply.headers["Content-Length"])
                    for piece in reply.iter_content(1 << 16):
                        out.write(piece)
                        headers = {"If-Range": reply.headers["ETag"], "Range": f"bytes={out.tell()}-"}
        except requests.HTTPError as problem:
            # A loader that is not ready responds with 503, whatever the reason is.
            if problem.response.status_code != requests.codes.unavailable:
                raise
            time.sleep(int(problem.response.headers.get("Retry-After", 2)))
        except requests.RequestException:  # the loader does not run, or has cut the load
            time.sleep(2)
        else:
            break
    assert part.stat().st_size == size
    part.replace(file)
    note.write_text(reply.headers["ETag"])


load(sys.argv[1], Path(sys.argv[2]))
