"""Starts a private dockerd, the resource API and the loader under gunicorn, and records the bytes of all models."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.archives import VERSION, sealed_images
from tests.support.engines import Engine, docker_engine
from tests.support.handmade_image import FRAGMENT
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.loader_server import LoaderServer
from tests.support.processes import ManagedProcess
from tests.support.resource_api_server import ResourceApiServer

FOLDER = "soak"
SIZES = (0, 1_000, 65_480, 65_481, 1_500_000, 4_000_000)


class CannotSoak(Exception):
    """A program is missing on this machine; the text names it."""


@dataclass
class Models:
    """Names of models, each with all contents that were ever uploaded under the name."""

    _contents: dict[str, list[bytes]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_version(self, name: str, chance: random.Random) -> bytes:
        """Return new content for `name`; from now on a load may return it."""
        content = chance.randbytes(chance.choice(SIZES))
        with self._lock:
            self._contents[name] = [*self._contents.get(name, []), content]
        return content

    def names(self) -> list[str]:
        """Return the names of all models that were uploaded so far."""
        with self._lock:
            return sorted(self._contents)

    def known(self, name: str, received: bytes, whole: bool) -> bool:
        """Return whether `received` is a content of `name` or, unless `whole`, the beginning of one."""
        with self._lock:
            contents = list(self._contents[name])
        return any(content == received if whole else content.startswith(received) for content in contents)


@dataclass(frozen=True)
class World:
    """All running programs. `device` is the directory with the files of the loader."""

    engine: Engine
    engine_process: ManagedProcess
    api: ResourceApiServer
    loader: LoaderServer
    device: Path
    models: Models

    @property
    def archive(self) -> Path:
        """The archive that the operator unlocks."""
        return self.device / "images.enc"


@contextmanager
def world(directory: Path) -> Iterator[World]:
    """Start everything with its files below `directory`. Raises CannotSoak if a program is missing."""
    device = directory / "device"
    for path in (directory / "packed", directory / "api", device / "models"):
        path.mkdir(parents=True)
    with ExitStack() as running:
        engine, process = _private_dockerd(running)
        sealed_images(directory / "packed").path.rename(device / "images.enc")
        api = running.enter_context(ResourceApiServer(directory / "api"))
        api.add_user(EMAIL, PASSWORD)
        api.set_fragment(FRAGMENT)
        loader = running.enter_context(LoaderServer(directory, _settings(device, api, engine)))
        yield World(engine, process, api, loader, device, Models())


def _settings(device: Path, api: ResourceApiServer, engine: Engine) -> dict[str, str]:
    return {
        "IMAGES_PATH": str(device / "images.enc"),
        "MODEL_CACHE_DIR": str(device / "models"),
        "MODEL_CACHE_MAX_BYTES": str(24 << 20),  # small, so that parts are evicted and downloaded again
        "RESOURCE_API_URL": api.url,
        "DOCKER_HOST": engine.host,
        "API_VERSION": VERSION,
        "API_CONNECT_TIMEOUT": "2",
        "API_READ_TIMEOUT": "10",
        "ENGINE_TIMEOUT": "30",
    }


def _private_dockerd(running: ExitStack) -> tuple[Engine, ManagedProcess]:
    try:
        engine = running.enter_context(docker_engine())
    except (pytest.skip.Exception, pytest.fail.Exception) as exc:
        raise CannotSoak(str(exc)) from exc
    if engine.process is None:
        raise CannotSoak("a private dockerd (it needs root, and cannot run everywhere)")
    return engine, engine.process
