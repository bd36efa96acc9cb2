"""The unlock of an update, compared with loads of the whole image and of the changed layer alone."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.devices import Device, docker
from benchmarks.images import new_key
from benchmarks.measure import Contender, compare
from benchmarks.peers import process, python, run
from benchmarks.releases import LARGE_FILE, changed_layer, docker_archive, noise_layers, top_layer
from benchmarks.servers import private_dockerd, resource_api
from benchmarks.tables import Result
from benchmarks.unlock import STREAM, unlock_once
from benchmarks.workload import Workload
from loader.binary_split import open_archive
from loader.oci import Layout
from tests.support.engines import Engine
from tests.support.images import remove_image
from tests.support.processes import clean_env

TAG = "1"
NAME = f"azaion-bench/update:{TAG}"
# Such an unlock takes half a second, and what the last poll waits would count as a part of it.
POLL_SECONDS = 0.02


def unlock_update(work: Workload) -> list[Result]:
    """Compare the unlock of a release that changes the topmost layer, and of one that changes a layer in the middle."""
    return [
        _compared(work, "the topmost layer", -1),
        _compared(work, "the topmost layer, of small files", -1, smallest=0),
        _compared(work, "a layer in the middle", -2),
    ]


def _compared(work: Workload, what: str, changed: int, smallest: int = LARGE_FILE) -> Result:
    """Measure on an engine that has the former release. From the layer number `changed` on, all is sent."""
    with ExitStack() as running:
        place = running.enter_context(work.place("unlock-update"))
        engine, api = running.enter_context(private_dockerd()), running.enter_context(resource_api(place / "api"))
        layers = [*noise_layers(work, place), top_layer(work, place / "top.tar", smallest)]
        old = docker_archive(place / "old.tar", NAME, layers)
        layers[changed] = changed_layer(layers[changed], place / "changed.tar")
        new = docker_archive(place / "new.tar", NAME, layers)
        key, archive = new_key(place), place / "device" / "images.enc"
        archive.parent.mkdir()
        run(python("loader", "images", "pack", "--from", new, "--key", key, "-o", archive))
        api.set_fragment(key.read_bytes())
        device = Device(engine, api, archive, NAME)
        server = running.enter_context(device.loader(place / "stream", "stream"))
        former = partial(_have_former, device, old)
        part = _partial_layout(archive, key.read_bytes(), changed, place / "part.tar")

        def load(name: str, tar: Path) -> Contender:
            command = [*docker(engine), "load", "--quiet", "--input", str(tar)]
            return process(name, work.mib, command, former, clean_env(place))

        ours = Contender(STREAM, work.mib, partial(unlock_once, server.url, POLL_SECONDS), former)
        peers = [
            partial(load, "docker load -i of the whole new tar", new),
            partial(load, "docker load -i of the changed layers alone", part),
        ]
        return compare(f"unlock an update of {what}", work.rounds, ours, peers)


def _have_former(device: Device, old: Path) -> None:
    """Let the engine have only the former release, and the device an archive that it has not unlocked yet."""
    _empty(device.engine)
    with old.open("rb") as tar:
        list(device.engine.client.api.load_image(tar))
    device.archive.touch()


def _empty(engine: Engine) -> None:
    if engine.client.images.list(name=NAME):
        remove_image(engine, NAME)


def _partial_layout(archive: Path, fragment: bytes, changed: int, tar: Path) -> Path:
    """Write what the loader sends to the engine, as it is, without any work of the loader."""
    with open_archive(archive) as opened, tar.open("wb") as file:
        contents, image = opened.unseal(fragment, lambda: None), opened.head.images[0]
        file.writelines(contents.layout(Layout(opened.head, image, image.layers[changed:]), contents.content_to_prove))
    return tar
