"""The one client of a process: the first use makes it, once; nothing happens before."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loader import api_client
from loader.api_client import client as client_module
from loader.api_client.client import ApiClient
from loader.settings import Settings
from tests.support.loader_server import REPOSITORY
from tests.support.processes import clean_env

THREADS = 50

# Prints what the import of every module, and then the making of an application, does beyond reading. What the outside
# libraries do when they are imported (pycryptodome asks `file` what kind of program Python is) is over by then.
WATCH = """
import importlib, os, pkgutil, sys, threading
import Crypto.Cipher.AES, Crypto.Hash.SHA256, Crypto.Protocol.KDF, Crypto.Random
import docker, flask, marshmallow, multipart, prometheus_client, pythonjsonlogger.json, urllib3

WATCHED = ("socket.", "subprocess.", "os.mkdir", "os.rename", "os.remove", "os.fork", "os.posix_spawn", "os.chmod")
seen = []

def watch(event, args):
    writes = event == "open" and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or event.startswith(WATCHED):
        seen.append((event, str(args[0])))

threading.Thread.start = lambda thread: seen.append(("thread", thread.name))
sys.addaudithook(watch)
import loader
for module in pkgutil.walk_packages(loader.__path__, "loader."):
    if module.name not in ("loader.__main__", "loader.server.wsgi"):  # the two entry points run on import
        importlib.import_module(module.name)
imported = list(seen)
seen.clear()
env = {"IMAGES_PATH": "/nonexistent/i.enc", "MODEL_CACHE_DIR": "/nonexistent/m"}
app = loader.create_app(loader.settings.Settings.from_env(env))
assert loader.api_client._api_client is None
print("import", imported, "app", seen)
"""
# An earlier process has left nothing that the application would have to remove.
CLEAN = "import [] app []\n"
PLANTS = {
    "threading.Thread(name='planted').start()": "('thread', 'planted')",
    "open('planted', 'w').close()": "('open', 'planted')",
    "import socket; socket.socket().close()": "('socket.__new__'",
}


@pytest.fixture
def configured() -> Iterator[Settings]:
    """Restore the module after the test."""
    before = (api_client._settings, api_client._api_client)
    settings = Settings.from_env({"RESOURCE_API_URL": "http://127.0.0.1:9"})
    api_client.configure(settings)
    yield settings
    api_client._settings, api_client._api_client = before


@pytest.mark.usefixtures("configured")
def test_fifty_threads_make_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    all_have_begun = threading.Barrier(THREADS + 1)
    made: list[ApiClient] = []

    class SlowToMake(ApiClient):
        def __init__(self, *args: object, **options: object) -> None:
            all_have_begun.wait(10)
            made.append(self)
            super().__init__(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(client_module, "ApiClient", SlowToMake)

    def first_use() -> ApiClient:
        if not taken.acquire(blocking=False):
            all_have_begun.wait(10)
        return api_client.get_api_client()

    # One thread makes the client and waits in its constructor until the 49 other threads and the test wait for it.
    taken = threading.Semaphore(1)
    with ThreadPoolExecutor(THREADS) as threads:
        futures = [threads.submit(first_use) for _ in range(THREADS)]
        all_have_begun.wait(10)
        clients = {id(future.result()) for future in futures}
    assert len(made) == 1
    assert clients == {id(made[0])}
    assert api_client.get_api_client() is made[0]


def test_client_of_other_settings_is_dropped(configured: Settings) -> None:
    first = api_client.get_api_client()
    api_client.configure(configured)
    assert api_client.get_api_client() is not first


@pytest.mark.usefixtures("configured")
def test_nobody_is_authenticated_before_the_first_use() -> None:
    assert api_client.authenticated() is False
    assert api_client._api_client is None


def watched(directory: Path, planted: str = "") -> str:
    """Return the output of WATCH, with a line of code planted after the import of the loader."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", WATCH.replace("import loader\n", f"import loader\n{planted}\n", 1)],
        cwd=directory,
        env=clean_env(directory, PYTHONPATH=str(REPOSITORY)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def test_import_has_no_side_effects(tmp_path: Path) -> None:
    assert watched(tmp_path) == CLEAN


@pytest.mark.parametrize("planted", PLANTS)
def test_side_effects_would_be_seen(tmp_path: Path, planted: str) -> None:
    assert PLANTS[planted] in watched(tmp_path, planted)
