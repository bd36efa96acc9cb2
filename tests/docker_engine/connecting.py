"""The `DockerEngine` on a connection that a test chooses, and loads, images and archives for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from loader.binary_split import Archive, Contents
from loader.crypto.archive_head import Image
from loader.docker_engine import DockerEngine
from tests.support.archives import PREFIX
from tests.support.faulty_wire import FaultyWire
from tests.support.handmade_image import FRAGMENT

PATIENCE_SECONDS = 60
SILENCE_SECONDS = 1
WAIT_SECONDS = 30.0
READ_SIZE = 64 * 1024
ABSENT = f"{PREFIX}absent:1"
EXPECTED = Image("any:1", "linux/amd64", "", "sha256:" + "a" * 64, "sha256:" + "c" * 64, ("sha256:" + "1" * 64,))


def connected(host: str, monkeypatch: pytest.MonkeyPatch, timeout: float = PATIENCE_SECONDS) -> DockerEngine:
    """Return a `DockerEngine` for the engine at `host`, whose silence it bears for `timeout` seconds."""
    monkeypatch.setenv("DOCKER_HOST", host)
    return DockerEngine(timeout)


def let_pings_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pings wait for long, because a real engine on a busy machine may need more than their two seconds."""
    monkeypatch.setattr("loader.docker_engine.connection.PING_TIMEOUT", WAIT_SECONDS)


def described(engine: DockerEngine, reference: str) -> Image:
    """Return the image under `reference` as an archive would describe it."""
    found = engine.find(reference)
    assert found is not None
    return replace(EXPECTED, reference=reference, config=found.id, layers=found.layers)


@contextmanager
def cut_when_held(wire: FaultyWire) -> Iterator[None]:
    """Cut the wire as soon as it holds something, while the block runs."""

    def cut() -> None:
        wire.wait_until_held()
        wire.cut()

    cutter = threading.Thread(target=cut)
    cutter.start()
    yield
    cutter.join(WAIT_SECONDS)


def pieces(path: Path) -> Iterator[bytes]:
    """Yield the content of a file as the source of a load."""
    with path.open("rb") as file:
        while piece := file.read(READ_SIZE):
            yield piece


def authenticated(archive: Archive) -> Contents:
    """Return the contents of an archive, all blobs of which are authenticated."""
    contents = archive.unseal(FRAGMENT, lambda: None)
    for digest in archive.head.blob:
        for _ in contents.authenticate(digest):
            pass
    return contents
