"""Uploads of a model through the loader, compared with servers that only store a file."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Contender, compare
from benchmarks.peers import curl, process
from benchmarks.servers import api_token, loader, nginx, resource_api
from benchmarks.tables import Result
from benchmarks.workload import Workload
from tests.support.loader_server import LoaderServer
from tests.support.resource_api_server import ResourceApiServer

MEMORY = "/dev/shm"  # noqa: S108  # a new directory in it, with a name that nobody can guess
FOLDER = "bench"
NAME = "model.bin"


def upload(work: Workload) -> list[Result]:
    """Compare POST /upload with PUT of the same bytes straight to the resource API and to nginx.

    Device and server have a disk each, but here is only one: if both wrote to it, the one that writes less would win.
    So one of them stores in memory, in the first table the servers and in the second one the loader. Each finds its
    place empty, so that none needs more memory than in the round before.
    """
    with ExitStack() as running:
        disk = running.enter_context(work.place("upload"))
        memory = Path(running.enter_context(TemporaryDirectory(prefix="loader-bench-", dir=MEMORY)))
        return [
            _compared("upload a model, to servers that store in memory", work, disk / "device", memory / "servers"),
            _compared("upload a model, to servers that store on the disk", work, memory / "device", disk / "servers"),
        ]


def _compared(title: str, work: Workload, device: Path, servers: Path) -> Result:
    servers.mkdir()
    with ExitStack() as running:
        api = running.enter_context(resource_api(servers / "api"))
        server = running.enter_context(loader(device, api))
        peers = [partial(_resource_api, work, api), partial(_nginx, work, running, servers)]
        return compare(title, work.rounds, _loader(work, server, api, device / "models"), peers)


def _loader(work: Workload, server: LoaderServer, api: ResourceApiServer, cache: Path) -> Contender:
    name = "loader, curl -F to /upload: encrypted, then stored by the resource API"
    command = upload_command(server.url, work.data)
    return process(name, work.mib, command, partial(_emptied, api.data_dir / "resources" / FOLDER, cache))


def upload_command(url: str, data: Path) -> list[str]:
    """Return the command that uploads `data` to the loader at `url`, as NAME in FOLDER."""
    return curl("--form", f"folder={FOLDER}", "--form", f"file=@{data}", f"{url}/upload/{NAME}")


def _resource_api(work: Workload, api: ResourceApiServer) -> Contender:
    bearer = f"Authorization: Bearer {api_token(api)}"
    command = curl("--header", bearer, "-T", work.data, f"{api.url}/resources/{FOLDER}/{NAME}")
    name = "the resource API alone, curl -T: as it is"
    return process(name, work.mib, command, partial(_emptied, api.data_dir / "resources" / FOLDER))


def _nginx(work: Workload, running: ExitStack, place: Path) -> Contender:
    server = running.enter_context(nginx(place / "nginx"))
    command = curl("-T", work.data, f"{server.url}/put/{NAME}")
    name = "nginx's PUT, curl -T: as it is, without fsync"
    return process(name, work.mib, command, partial(_emptied, server.www / "put"))


def _emptied(*directories: Path) -> None:
    """Remove what earlier runs stored."""
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
