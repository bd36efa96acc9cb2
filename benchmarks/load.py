"""Loads of a model through the loader, compared with servers that only send a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.request import urlopen

from benchmarks.decrypt import age_decrypt, openssl_decrypt
from benchmarks.measure import Contender, compare
from benchmarks.peers import curl, piped, process, run
from benchmarks.servers import api_token, loader, nginx, resource_api
from benchmarks.tables import Result
from benchmarks.upload import FOLDER, NAME, upload_command
from benchmarks.workload import Workload
from tests.support.loader_server import LoaderServer
from tests.support.processes import poll
from tests.support.resource_api_server import ResourceApiServer

SETTLED_SECONDS = 60.0
TO_A_READER = "of a local file, piped to a reader"


def load(work: Workload) -> Result:
    """Compare a warm POST /load to /dev/null with the plaintext from nginx and with a decryption piped to a reader."""
    with ExitStack() as running:
        place = running.enter_context(work.place("load"))
        server = _with_the_model(work, running, place)[1]
        ours = process("loader, POST /load from its cache: verified and decrypted", work.mib, load_command(server.url))
        peers = [
            partial(
                _piped, work, f"openssl enc -d -aes-256-ctr {TO_A_READER}; verifies nothing", openssl_decrypt, place
            ),
            partial(_nginx, work, running, place),
            partial(_piped, work, f"age -d {TO_A_READER}", age_decrypt, place),
        ]
        return compare("load a model, warm", work.rounds, ours, peers)


def load_cold(work: Workload) -> Result:
    """Compare a POST /load with an empty cache with the same ciphertext straight from the API."""
    with ExitStack() as running:
        place = running.enter_context(work.place("load-cold"))
        api, server = _with_the_model(work, running, place)
        models = place / "loader" / "models"
        ours = process(
            "loader, POST /load with an empty cache: fetched, hashed, kept, verified and decrypted",
            work.mib,
            load_command(server.url),
            partial(empty_cache, server, models),
        )
        return compare("load a model, cold", work.rounds, ours, [partial(_resource_api, work, api)])


def _with_the_model(work: Workload, running: ExitStack, place: Path) -> tuple[ResourceApiServer, LoaderServer]:
    api = running.enter_context(resource_api(place / "api"))
    server = running.enter_context(loader(place / "loader", api))
    run(upload_command(server.url, work.data))
    return api, server


def load_command(url: str) -> list[str]:
    """Return the command that loads from the loader at `url` what `upload_command` uploaded, and discards it."""
    body = json.dumps({"filename": NAME, "folder": FOLDER})
    return curl("--header", "Content-Type: application/json", "--data", body, f"{url}/load/{NAME}")


def empty_cache(server: LoaderServer, models: Path) -> None:
    """Empty the cache once the download of the previous run has ended."""
    poll(lambda: not _downloads(server), SETTLED_SECONDS, "no transfer runs")
    for path in models.glob("*.big"):
        path.unlink()


def _downloads(server: LoaderServer) -> object:
    with urlopen(f"{server.url}/status", timeout=SETTLED_SECONDS) as answer:
        return json.load(answer)["cache"]["downloads"]


def _piped(work: Workload, name: str, decrypt: Callable[[Path, Path], list[str]], place: Path) -> Contender:
    # Read with cat, because the file protocol of curl cannot read a pipe.
    return process(name, work.mib, piped(decrypt(work.data, place), ["cat"]))


def _nginx(work: Workload, running: ExitStack, place: Path) -> Contender:
    server = running.enter_context(nginx(place / "nginx"))
    os.link(work.data, server.www / NAME)
    return process("nginx, the plaintext as a file", work.mib, curl(f"{server.url}/{NAME}"))


def _resource_api(work: Workload, api: ResourceApiServer) -> Contender:
    (big,) = (api.data_dir / "resources" / FOLDER).glob("*.big")
    bearer = f"Authorization: Bearer {api_token(api)}"
    command = curl("--header", bearer, f"{api.url}/resources/{FOLDER}/{big.name}")
    return process("curl of the big part from the resource API, still encrypted", work.mib, command)
