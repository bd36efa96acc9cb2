"""An unlock beside a plain `docker load`, into the same engine."""

from __future__ import annotations

import shlex
import tarfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import requests

from benchmarks.decrypt import age_decrypt, openssl_decrypt, sealed
from benchmarks.measure import Contender, Result, compare
from benchmarks.peers import RunFailed, process, python, require_program, run
from benchmarks.servers import CALL_SECONDS, EMAIL, PASSWORD, loader, private_dockerd, resource_api
from benchmarks.workload import Workload
from tests.support.engines import Engine
from tests.support.images import remove_image, save_images
from tests.support.loader_server import LoaderServer
from tests.support.processes import clean_env
from tests.support.resource_api_server import ResourceApiServer

TAG = "1"
IMAGE = f"azaion-bench:{TAG}"
# As often as a page or a script would ask: each answer takes time from the two cores.
POLL_SECONDS = 0.1
UNLOCK_SECONDS = 900.0


STREAM = "loader, mode stream: POST /unlock until ready"
BY_TAR = "loader, mode tar: POST /unlock until ready"


@dataclass(frozen=True)
class Device:
    """An engine, an API and an archive that belong together; `tar` is the archive's plaintext."""

    engine: Engine
    api: ResourceApiServer
    archive: Path
    tar: Path

    def loader(self, directory: Path, mode: str) -> AbstractContextManager[LoaderServer]:
        """A loader for this archive and engine."""
        settings = {"IMAGES_PATH": str(self.archive), "API_VERSION": TAG, "DOCKER_HOST": self.engine.host}
        return loader(directory, self.api, UNLOCK_MODE=mode, **settings)

    def lock(self) -> None:
        """Make the next unlock do everything anew."""
        remove_image(self.engine, IMAGE)
        self.archive.touch()  # else it is the archive that was unlocked before, and nothing is done


def device(work: Workload, running: ExitStack, place: Path) -> Device:
    """A new one, whose image holds the workload's data."""
    engine = running.enter_context(private_dockerd())
    api = running.enter_context(resource_api(place / "api"))
    tar = _make_image(engine, work.data, place)
    return Device(engine, api, _pack(engine, api, place), tar)


def unlock(work: Workload) -> list[Result]:
    """POST /unlock until `ready` in both modes, the load of the plain tar, and the usual decryption in a pipe."""
    with ExitStack() as running:
        place = running.enter_context(work.place("unlock"))
        locked = device(work, running, place)
        stream, by_tar = (
            Contender(name, work.mib, partial(unlock_once, server.url), locked.lock)
            for name, server in (
                (STREAM, running.enter_context(locked.loader(place / "stream", "stream"))),
                (BY_TAR, running.enter_context(locked.loader(place / "by-tar", "tar"))),
            )
        )
        peers: list[Callable[[], Contender]] = [
            lambda: by_tar,
            partial(_docker_load, work.mib, locked, place),
            partial(_piped, work.mib, "openssl", openssl_decrypt, locked, place),
            partial(_piped, work.mib, "age", age_decrypt, locked, place),
        ]
        both = compare("unlock an archive", work.rounds, stream, peers)
    theirs = slice(2, None)
    return [both.beside("unlock, mode stream", STREAM, theirs), both.beside("unlock, mode tar", BY_TAR, theirs)]


def verify(work: Workload) -> Result:
    """The pass that mode `stream` makes before the engine gets a byte, on all cores and on one."""
    with work.place("verify") as place:
        key, archive = sealed(work.data, place)
        command = python("loader", "images", "verify", archive, "--key", key)
        ours = process("loader images verify", work.mib, command)

        def on_one_core() -> Contender:
            require_program("taskset")
            return process("the same on one core", work.mib, ["taskset", "--cpu-list", "0", *command])

        return compare("verify an archive", work.rounds, ours, [on_one_core])


def _pack(engine: Engine, api: ResourceApiServer, place: Path) -> Path:
    # In a directory of its own, as on a device: where it lies is searched for secrets in the end.
    key, archive = place / "fragment.key", place / "device" / "images.enc"
    archive.parent.mkdir()
    run(python("loader", "key", "new", "-o", key))
    command = python("loader", "images", "pack", IMAGE, "--key", key, "-o", archive)
    run(command, env=clean_env(place, DOCKER_HOST=engine.host))
    api.set_fragment(key.read_bytes())
    return archive


def _make_image(engine: Engine, data: Path, place: Path) -> Path:
    """An image of one layer that holds `data`, in the engine; returns it in the form of `docker save`."""
    root = place / "root.tar"
    with tarfile.open(root, "w") as tar:
        tar.add(data, "data.bin")
    engine.client.api.import_image_from_file(str(root), repository=IMAGE)
    root.unlink()
    return save_images(engine, [IMAGE], place / "plain.tar")


def unlock_once(url: str) -> None:
    """POST /unlock, and wait for `ready`; raises RunFailed."""
    credentials = {"email": EMAIL, "password": PASSWORD}
    deadline = time.monotonic() + UNLOCK_SECONDS
    with requests.Session() as session:
        session.post(f"{url}/unlock", json=credentials, timeout=CALL_SECONDS).raise_for_status()
        while (status := session.get(f"{url}/unlock/status", timeout=CALL_SECONDS).json())["state"] != "ready":
            if status["state"] == "error" or time.monotonic() > deadline:
                raise RunFailed(f"the unlock ended as {status}")
            time.sleep(POLL_SECONDS)


def _docker_load(mib: int, device: Device, home: Path) -> Contender:
    command = [*_load_command(device), "--input", str(device.tar)]
    return process("docker load -i of the plain tar", mib, command, device.lock, clean_env(home))


def _piped(mib: int, name: str, decrypt: Callable[[Path, Path], list[str]], device: Device, home: Path) -> Contender:
    command = f"{shlex.join(decrypt(device.tar, home))} | {shlex.join(_load_command(device))}"
    return process(f"{name} -d piped to docker load", mib, ["sh", "-c", command], device.lock, clean_env(home))


def _load_command(device: Device) -> list[str]:
    require_program("docker")
    return ["docker", "--host", device.engine.host, "load", "--quiet"]
