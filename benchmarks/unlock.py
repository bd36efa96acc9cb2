"""An unlock, compared with a plain `docker load` of the same image into the same engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import requests

from benchmarks.decrypt import age_decrypt, openssl_decrypt
from benchmarks.devices import Device, docker, packed_device
from benchmarks.images import noise_image, saved, service_image
from benchmarks.measure import Contender, compare
from benchmarks.peers import RunFailed, piped, process
from benchmarks.servers import CALL_SECONDS, EMAIL, SECRET, private_dockerd, resource_api
from benchmarks.tables import Result
from benchmarks.workload import Workload
from tests.support.processes import clean_env

# Poll as often as a page or a script does, because each response takes time of the two cores.
POLL_SECONDS = 0.1
UNLOCK_SECONDS = 900.0

STREAM = "loader, mode stream: POST /unlock until ready"
BY_TAR = "loader, mode tar: POST /unlock until ready"


def unlock(work: Workload) -> list[Result]:
    """Compare POST /unlock in both modes with the load of the plain tar and with a decryption in a pipe."""
    with ExitStack() as running:
        place = running.enter_context(work.place("unlock"))
        engine, api = running.enter_context(private_dockerd()), running.enter_context(resource_api(place / "api"))
        image = noise_image(engine, work, place)
        tar = saved(engine, image, place)
        locked = packed_device(engine, api, image.name, place)
        stream, by_tar = (
            Contender(name, work.mib, partial(unlock_once, server.url), locked.lock)
            for name, server in (
                (STREAM, running.enter_context(locked.loader(place / "stream", "stream"))),
                (BY_TAR, running.enter_context(locked.loader(place / "by-tar", "tar"))),
            )
        )
        peers: list[Callable[[], Contender]] = [
            lambda: by_tar,
            partial(_docker_load, work.mib, locked, tar),
            partial(_piped, work.mib, "openssl", openssl_decrypt, locked, tar),
            partial(_piped, work.mib, "age", age_decrypt, locked, tar),
        ]
        both = compare("unlock an archive", work.rounds, stream, peers)
    theirs = slice(2, None)
    return [both.beside("unlock, mode stream", STREAM, theirs), both.beside("unlock, mode tar", BY_TAR, theirs)]


def unlock_gzip(work: Workload) -> Result:
    """Compare POST /unlock of a compressed archive with the load of the plain tar."""
    with ExitStack() as running:
        place = running.enter_context(work.place("unlock-gzip"))
        engine, api = running.enter_context(private_dockerd()), running.enter_context(resource_api(place / "api"))
        image = service_image(engine, work, place)
        tar = saved(engine, image, place)
        locked = packed_device(engine, api, image.name, place)
        server = running.enter_context(locked.loader(place / "stream", "stream"))
        ours = Contender(STREAM, image.mib, partial(unlock_once, server.url), locked.lock)
        return compare(
            "unlock a compressed archive", work.rounds, ours, [partial(_docker_load, image.mib, locked, tar)]
        )


def unlock_once(url: str, poll_seconds: float = POLL_SECONDS) -> None:
    """Send POST /unlock, and ask every `poll_seconds` until the state is `ready`. Raises RunFailed."""
    credentials = {"email": EMAIL, "password": SECRET}
    deadline = time.monotonic() + UNLOCK_SECONDS
    with requests.Session() as session:
        session.post(f"{url}/unlock", json=credentials, timeout=CALL_SECONDS).raise_for_status()
        while (status := session.get(f"{url}/unlock/status", timeout=CALL_SECONDS).json())["state"] != "ready":
            if status["state"] == "error" or time.monotonic() > deadline:
                raise RunFailed(f"the unlock ended as {status}")
            time.sleep(poll_seconds)


def _docker_load(mib: int, device: Device, tar: Path) -> Contender:
    command = [*_load_command(device), "--input", str(tar)]
    return process("docker load -i of the plain tar", mib, command, device.lock, clean_env(tar.parent))


def _piped(mib: int, name: str, decrypt: Callable[[Path, Path], list[str]], device: Device, tar: Path) -> Contender:
    command = piped(decrypt(tar, tar.parent), _load_command(device))
    return process(f"{name} -d piped to docker load", mib, command, device.lock, clean_env(tar.parent))


def _load_command(device: Device) -> list[str]:
    return [*docker(device.engine), "load", "--quiet"]
