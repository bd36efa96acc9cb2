"""An unlock beside a plain `docker load`, into the same engine."""

from __future__ import annotations

import shutil
import tarfile
import time
from functools import partial
from pathlib import Path

import requests

from benchmarks.measure import Contender, Result, compare
from benchmarks.peers import RunFailed, curl, process, python, run
from benchmarks.servers import CALL_SECONDS, EMAIL, PASSWORD, loader, private_dockerd, resource_api
from benchmarks.workload import Workload
from tests.support.engines import Engine
from tests.support.images import remove_image, save_images
from tests.support.processes import clean_env

TAG = "1"
IMAGE = f"azaion-bench:{TAG}"
POLL_SECONDS = 0.02
UNLOCK_SECONDS = 900.0


def unlock(work: Workload) -> Result:
    """POST /unlock until `ready` (login, key, decryption to the tar, load, removal), and the load of the plain tar."""
    with work.place("unlock") as place, private_dockerd() as engine, resource_api(place / "api") as api:
        key, archive = place / "fragment.key", place / "images.enc"
        tar = _make_image(engine, work.data, place)
        run(python("loader", "key", "new", "-o", key))
        pack = python("loader", "images", "pack", IMAGE, "--key", key, "-o", archive)
        run(pack, env=clean_env(place, DOCKER_HOST=engine.host))
        api.set_fragment(key.read_bytes())
        settings = {"IMAGES_PATH": str(archive), "API_VERSION": TAG, "DOCKER_HOST": engine.host}
        with loader(place / "loader", api, **settings) as server:
            ours = _loader(work.mib, server.url, archive, engine)
            peers = [partial(_docker_load, work.mib, engine, tar, place)]
            return compare("unlock an archive", work.rounds, ours, peers)


def _make_image(engine: Engine, data: Path, place: Path) -> Path:
    """An image of one layer that holds `data`, in the engine; returns it in the form of `docker save`."""
    root = place / "root.tar"
    with tarfile.open(root, "w") as tar:
        tar.add(data, "data.bin")
    engine.client.api.import_image_from_file(str(root), repository=IMAGE)
    root.unlink()
    return save_images(engine, [IMAGE], place / "plain.tar")


def _loader(mib: int, url: str, archive: Path, engine: Engine) -> Contender:
    def prepare() -> None:
        remove_image(engine, IMAGE)
        archive.touch()  # else it is the archive that was unlocked before, and nothing is done

    return Contender("loader, POST /unlock until ready", mib, partial(_unlock_once, url), prepare)


def _unlock_once(url: str) -> None:
    credentials = {"email": EMAIL, "password": PASSWORD}
    deadline = time.monotonic() + UNLOCK_SECONDS
    with requests.Session() as session:
        session.post(f"{url}/unlock", json=credentials, timeout=CALL_SECONDS).raise_for_status()
        while (status := session.get(f"{url}/unlock/status", timeout=CALL_SECONDS).json())["state"] != "ready":
            if status["state"] == "error" or time.monotonic() > deadline:
                raise RunFailed(f"the unlock ended as {status}")
            time.sleep(POLL_SECONDS)


def _docker_load(mib: int, engine: Engine, tar: Path, home: Path) -> Contender:
    prepare = partial(remove_image, engine, IMAGE)
    if shutil.which("docker") is not None:
        command = ["docker", "--host", engine.host, "load", "--quiet", "--input", str(tar)]
        return process("docker load -i of the plain tar", mib, command, prepare, clean_env(home))
    address = ("--unix-socket", engine.socket, "http://localhost/images/load")
    command = curl("--request", "POST", "--header", "Content-Type: application/x-tar", "-T", tar, *address)
    return process("curl -T of the plain tar to /images/load (no docker command here)", mib, command, prepare)
