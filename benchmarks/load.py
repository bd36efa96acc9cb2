"""A model through the loader, beside servers that only have to send a file."""

from __future__ import annotations

import json
import os
import shlex
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.request import urlopen

from benchmarks.decrypt import age_decrypt
from benchmarks.measure import Contender, Result, compare
from benchmarks.peers import curl, process, run
from benchmarks.servers import api_token, loader, nginx, resource_api
from benchmarks.workload import Workload
from tests.support.loader_server import LoaderServer
from tests.support.processes import poll
from tests.support.resource_api_server import ResourceApiServer

FOLDER = "bench"
NAME = "model.bin"
SETTLED_SECONDS = 60.0


def load(work: Workload) -> Result:
    """A warm POST /load to /dev/null, the same plaintext from nginx, and age into the same client."""
    with ExitStack() as running:
        place = running.enter_context(work.place("load"))
        server = _with_the_model(work, running, place)[1]
        ours = process("loader, POST /load from its cache: verified and decrypted", work.mib, _command(server))
        peers = [partial(_nginx, work, running, place), partial(_age, work, place)]
        return compare("load a model, warm", work.rounds, ours, peers)


def load_cold(work: Workload) -> Result:
    """A POST /load that finds nothing in the cache, and the same ciphertext straight from where it comes from."""
    with ExitStack() as running:
        place = running.enter_context(work.place("load-cold"))
        api, server = _with_the_model(work, running, place)
        models = place / "loader" / "models"
        ours = process(
            "loader, POST /load with an empty cache: fetched, hashed, kept, verified and decrypted",
            work.mib,
            _command(server),
            partial(_empty, server, models),
        )
        return compare("load a model, cold", work.rounds, ours, [partial(_resource_api, work, api)])


def _with_the_model(work: Workload, running: ExitStack, place: Path) -> tuple[ResourceApiServer, LoaderServer]:
    api = running.enter_context(resource_api(place / "api"))
    server = running.enter_context(loader(place / "loader", api))
    run(curl("--form", f"folder={FOLDER}", "--form", f"file=@{work.data}", f"{server.url}/upload/{NAME}"))
    return api, server


def _command(server: LoaderServer) -> list[str]:
    body = json.dumps({"filename": NAME, "folder": FOLDER})
    return curl("--header", "Content-Type: application/json", "--data", body, f"{server.url}/load/{NAME}")


def _empty(server: LoaderServer, models: Path) -> None:
    """Empty the cache, once the transfer of the run before has ended."""
    poll(lambda: not _downloads(server), SETTLED_SECONDS, "no transfer runs")
    for path in models.glob("*.big"):
        path.unlink()


def _downloads(server: LoaderServer) -> object:
    with urlopen(f"{server.url}/status", timeout=SETTLED_SECONDS) as answer:
        return json.load(answer)["cache"]["downloads"]


def _age(work: Workload, place: Path) -> Contender:
    # The file protocol of curl reads no pipe, so that a reader like it stands at the end.
    command = [*age_decrypt(work.data, place)]
    return process("age -d of a local file, piped to a reader", work.mib, ["sh", "-c", f"{shlex.join(command)} | cat"])


def _nginx(work: Workload, running: ExitStack, place: Path) -> Contender:
    server = running.enter_context(nginx(place / "nginx"))
    os.link(work.data, server.www / NAME)
    return process("nginx, the plaintext as a file", work.mib, curl(f"{server.url}/{NAME}"))


def _resource_api(work: Workload, api: ResourceApiServer) -> Contender:
    (big,) = (api.data_dir / "resources" / FOLDER).glob("*.big")
    bearer = f"Authorization: Bearer {api_token(api)}"
    command = curl("--header", bearer, f"{api.url}/resources/{FOLDER}/{big.name}")
    return process("curl of the big part from the resource API, still encrypted", work.mib, command)
