"""A model through the loader, beside servers that only have to send a file."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.measure import Contender, Result, compare
from benchmarks.peers import curl, process, run
from benchmarks.servers import api_token, loader, nginx, resource_api
from benchmarks.workload import Workload
from tests.support.loader_server import LoaderServer
from tests.support.resource_api_server import ResourceApiServer

FOLDER = "bench"
NAME = "model.bin"


def load(work: Workload) -> Result:
    """POST /load to /dev/null, the same plaintext from nginx, and the loader's own source: the Resource API."""
    with ExitStack() as running:
        place = running.enter_context(work.place("load"))
        api = running.enter_context(resource_api(place / "api"))
        server = running.enter_context(loader(place / "loader", api))
        run(curl("--form", f"folder={FOLDER}", "--form", f"file=@{work.data}", f"{server.url}/upload/{NAME}"))
        peers = [partial(_nginx, work, running, place), partial(_resource_api, work, api)]
        return compare("load a model", work.rounds, _loader(work, server), peers)


def _loader(work: Workload, server: LoaderServer) -> Contender:
    body = json.dumps({"filename": NAME, "folder": FOLDER})
    command = curl("--header", "Content-Type: application/json", "--data", body, f"{server.url}/load/{NAME}")
    return process("loader, POST /load: fetched, verified and decrypted", work.mib, command)


def _nginx(work: Workload, running: ExitStack, place: Path) -> Contender:
    server = running.enter_context(nginx(place / "nginx"))
    os.link(work.data, server.www / NAME)
    return process("nginx, the plaintext as a file", work.mib, curl(f"{server.url}/{NAME}"))


def _resource_api(work: Workload, api: ResourceApiServer) -> Contender:
    (big,) = (api.data_dir / "resources" / FOLDER).glob("*.big")
    bearer = f"Authorization: Bearer {api_token(api)}"
    command = curl("--header", bearer, f"{api.url}/resources/{FOLDER}/{big.name}")
    return process("the resource API alone, still encrypted: the first row's source", work.mib, command)
