"""Starts a private dockerd, a store, two resource APIs, the way to them, a small disk, and the loader."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from resource_api.accounts import Role
from tests.support.archives import VERSION, sealed_images
from tests.support.engines import Engine, docker_engine
from tests.support.handmade_image import FRAGMENT
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.loader_server import LoaderServer
from tests.support.processes import ManagedProcess
from tests.support.resource_api_server import ResourceApiServer
from tests.support.small_disk import small_disk
from tests.support.stepped_clock import SteppedClock
from tests.support.swift_store import SwiftStore
from tools.soak.disk import SIZE, CacheDisk
from tools.soak.link import Link
from tools.soak.models import Models
from tools.soak.portal import Portal

REPLICAS = 2
# Longer than the 4 seconds after which the loader uses an idle connection no more.
NAT_SECONDS = 6.0
# Longer than NAT_SECONDS, so that NAT forgets a connection before the API closes it.
KEEP_ALIVE_SECONDS = 60
# Longer than the API is ever away, so that what has begun then only takes longer.
PATIENCE_SECONDS = 120


class CannotSoak(Exception):
    """A program or a right is missing on this machine; the text names it."""


@dataclass(frozen=True)
class World:
    """All running programs.

    `link` leads from the loader to the `replicas`, which keep the big parts in the `store`. `clock` is that of the
    loader. `device` is the directory with the files of the loader. While
    `silence` is set, no client sends anything.
    """

    engine: Engine
    engine_process: ManagedProcess
    store: SwiftStore
    replicas: tuple[ResourceApiServer, ...]
    link: Link
    portal: Portal
    clock: SteppedClock
    loader: LoaderServer
    device: Path
    disk: CacheDisk
    models: Models = field(default_factory=Models)
    silence: threading.Event = field(default_factory=threading.Event)

    @property
    def archive(self) -> Path:
        """The archive that the operator unlocks."""
        return self.device / "images.enc"


@contextmanager
def world(directory: Path) -> Iterator[World]:
    """Start everything with its files below `directory`. Raises CannotSoak if a program or a right is missing."""
    device = directory / "device"
    for path in (directory / "packed", device):
        path.mkdir(parents=True)
    with ExitStack() as running:
        with _required():
            engine, process = _private_dockerd(running)
            store = running.enter_context(SwiftStore(_made(directory / "store")))
            disk = CacheDisk(running.enter_context(small_disk(device / "disk", SIZE)), directory / "data" / "resources")
            clock = SteppedClock(_made(directory / "clock"))
        sealed_images(directory / "packed").path.rename(device / "images.enc")
        replicas = _replicas(running, directory, store)
        link = running.enter_context(Link([replica.url for replica in replicas], NAT_SECONDS))
        portal = running.enter_context(Portal())
        settings = _settings(device, disk, link, engine) | clock.env
        loader = running.enter_context(LoaderServer(directory, settings))
        yield World(engine, process, store, replicas, link, portal, clock, loader, device, disk)


def _settings(device: Path, disk: CacheDisk, link: Link, engine: Engine) -> dict[str, str]:
    return {
        "IMAGES_PATH": str(device / "images.enc"),
        "MODEL_CACHE_DIR": str(disk.cache),
        "MODEL_CACHE_MAX_BYTES": str(24 << 20),  # small, so that parts are evicted and downloaded again
        "RESOURCE_API_URL": link.url,
        "DOCKER_HOST": engine.host,
        "API_VERSION": VERSION,
        "API_CONNECT_TIMEOUT": "2",
        "API_READ_TIMEOUT": "10",
        "API_PATIENCE": str(PATIENCE_SECONDS),
        "ENGINE_TIMEOUT": "30",
    }


def _replicas(running: ExitStack, directory: Path, store: SwiftStore) -> tuple[ResourceApiServer, ...]:
    """Start the replicas of one API, which share their data directory and the store."""
    replicas = []
    for number in range(REPLICAS):
        home = _made(directory / f"api-{number}")
        api = ResourceApiServer(
            home,
            data_dir=directory / "data",
            keep_alive=KEEP_ALIVE_SECONDS,
            store=store.settings(small_bucket=False),
        )
        replicas.append(running.enter_context(api))
    replicas[0].add_user(EMAIL, PASSWORD, Role.PUBLISHER)
    replicas[0].set_fragment(FRAGMENT)
    return tuple(replicas)


def _private_dockerd(running: ExitStack) -> tuple[Engine, ManagedProcess]:
    engine = running.enter_context(docker_engine())
    if engine.process is None:
        raise CannotSoak("a private dockerd (it needs root, and cannot run everywhere)")
    return engine, engine.process


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


@contextmanager
def _required() -> Iterator[None]:
    """Raise CannotSoak for what the machine lacks."""
    try:
        yield
    except (pytest.skip.Exception, pytest.fail.Exception) as exc:
        raise CannotSoak(str(exc)) from exc
