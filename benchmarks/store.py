"""Uploads and cold loads of a model whose big part is in an S3 store, compared with curl of the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from benchmarks.load import empty_cache, load_command
from benchmarks.measure import Contender, Missing, compare
from benchmarks.peers import curl, process, run
from benchmarks.servers import loader, resource_api
from benchmarks.tables import Result
from benchmarks.upload import FOLDER, upload_command
from benchmarks.workload import Workload
from tests.support.loader_server import LoaderServer
from tests.support.missing import MARK
from tests.support.swift_store import BIG, SwiftStore

URL_SECONDS = 24 * 3600
COPY = "copy.big"


@dataclass(frozen=True)
class _Site:
    """A loader, whose cache is in `models`, that is logged in at an API with a store."""

    server: LoaderServer
    models: Path
    store: SwiftStore

    def url(self, method: str, key: str) -> str:
        return self.store.bucket(BIG).url(method, key, URL_SECONDS)


def store_upload(work: Workload) -> Result:
    """Compare POST /upload, whose parts go straight to the store, with one presigned PUT of as many bytes."""
    with _site(work, "store-upload") as site:
        ours = process(
            "loader, curl -F to /upload: encrypted, in parts with presigned URLs",
            work.mib,
            upload_command(site.server.url, work.data),
            partial(_empty, site),
        )
        return compare("upload a model to the store", work.rounds, ours, [partial(_put, work, site)])


def store_load(work: Workload) -> Result:
    """Compare a cold POST /load with a download of the same object, by its presigned URL, into a file with fsync."""
    with _site(work, "store-load") as site:
        run(upload_command(site.server.url, work.data))
        ours = process(
            "loader, POST /load with an empty cache: redirected, fetched, hashed, kept, verified and decrypted",
            work.mib,
            load_command(site.server.url),
            partial(empty_cache, site.server, site.models),
        )
        return compare("load a model from the store, cold", work.rounds, ours, [partial(_get, work, site)])


@contextmanager
def _site(work: Workload, name: str) -> Iterator[_Site]:
    with ExitStack() as running:
        place = running.enter_context(work.place(name))
        (place / "swift").mkdir()
        try:
            store = running.enter_context(SwiftStore(place / "swift"))
        except (pytest.skip.Exception, pytest.fail.Exception) as exc:
            raise Missing(str(exc).removeprefix(MARK)) from exc
        api = running.enter_context(resource_api(place / "api", store.settings()))
        server = running.enter_context(loader(place / "loader", api))
        yield _Site(server, place / "loader" / "models", store)


def _put(work: Workload, site: _Site) -> Contender:
    command = curl("-T", work.data, site.url("PUT", COPY))
    return process("curl -T to the store with a presigned URL: as it is", work.mib, command, partial(_empty, site))


def _get(work: Workload, site: _Site) -> Contender:
    (big,) = site.store.bucket(BIG).find(f"{FOLDER}/")
    file = site.models.parent / "copy"
    download = 'curl --silent --show-error --fail --output "$1" "$0" && sync "$1"'
    command = ["sh", "-c", download, site.url("GET", big.name), str(file)]
    name = "curl of the presigned URL into a file, with fsync"
    return process(name, work.mib, command, partial(file.unlink, missing_ok=True))


def _empty(site: _Site) -> None:
    """Remove what earlier runs stored, because the disk has no room for all rounds."""
    site.store.clear()
    shutil.rmtree(site.models, ignore_errors=True)
    site.models.mkdir()
