"""Five releases in a row, published and fetched, beside `docker push` and `docker pull` of the same images."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.devices import docker
from benchmarks.fetch import fetch_once
from benchmarks.peers import piped, python, require_program, run
from benchmarks.servers import EMAIL, SECRET, loader, private_dockerd, resource_api
from benchmarks.unlock import unlock_once
from benchmarks.workload import MIB, Workload
from tests.fetch.published import VERSION, layer
from tests.support.engines import Engine
from tests.support.handmade_image import FRAGMENT, HandmadeImage, docker_archive, seal
from tests.support.http_probe import http_status
from tests.support.images import remove_image
from tests.support.narrow_line import NarrowLine
from tests.support.processes import ManagedProcess, clean_env, free_port

RELEASES = 5
# Of BENCH_MIB: what stays, in three layers, and the layer that is another one in each release.
STAYING = (0.1, 0.08, 0.07)
CHANGING = 0.02
READY_SECONDS = 30.0
REGISTRY_CONFIGURATION = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {directory}/data}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@dataclass(frozen=True)
class Step:
    """What one step of one release costs: MiB and requests on the line, both ways, and seconds."""

    release: int
    name: str
    mib: float
    requests: int
    seconds: float


@dataclass(frozen=True)
class Releases:
    """The steps of all releases, beside one another."""

    title: str
    steps: tuple[Step, ...]

    def lines(self) -> list[str]:
        """Return a line for each step."""
        rows = [f"{s.release:>7}  {s.mib:>8.2f}  {s.requests:>8}  {s.seconds:>7.2f}  {s.name}" for s in self.steps]
        return [f"{'release':>7}  {'MiB':>8}  {'requests':>8}  {'s':>7}", *rows]

    def document(self) -> dict[str, Any]:
        """Return every single value."""
        return {"title": self.title, "rows": [asdict(step) for step in self.steps]}


def releases(work: Workload) -> Releases:
    """Publish, fetch and unlock releases on an engine, and push and pull the same images on others. Raises Missing."""
    images = [_image(work, number) for number in range(1, RELEASES + 1)]
    steps = [*_by_loader(work, images), *_by_registry(work, images)]
    return Releases("five releases in a row", tuple(sorted(steps, key=lambda step: step.release)))


def _image(work: Workload, number: int) -> HandmadeImage:
    staying = [layer(f"staying {share}", round(share * work.mib * MIB)) for share in STAYING]
    changing = layer(f"release {number}", round(CHANGING * work.mib * MIB))
    return HandmadeImage(f"registry.local:5000/app:{VERSION}", (*staying, changing))


def _by_loader(work: Workload, images: list[HandmadeImage]) -> Iterator[Step]:
    with ExitStack() as running:
        place = running.enter_context(work.place("releases"))
        engine, api = running.enter_context(private_dockerd()), running.enter_context(resource_api(place / "api"))
        api.set_fragment(FRAGMENT)
        line = running.enter_context(NarrowLine(api.url))
        installed = place / "device" / "images.enc"
        installed.parent.mkdir()
        settings = {"RESOURCE_API_URL": line.url, "IMAGES_PATH": str(installed), "API_VERSION": VERSION}
        settings |= {"DOCKER_HOST": engine.host, "UNLOCK_MODE": "stream"}
        url = running.enter_context(loader(place / "loader", api, **settings)).url
        for number, image in enumerate(images, 1):
            archive = seal(place / "release.enc", [image], version=VERSION, serial=number)
            publish = python("loader", "images", "publish", archive, "--api", line.url, "--email", EMAIL)
            command = piped(["echo", SECRET], publish)
            yield _measured(line, number, "loader images publish", lambda: run(command))  # noqa: B023  # it runs at once
            yield _measured(line, number, "loader images fetch", lambda: fetch_once(url))
            yield _measured(line, number, "unlock of what was fetched", lambda: unlock_once(url))


def _by_registry(work: Workload, images: list[HandmadeImage]) -> Iterator[Step]:
    with ExitStack() as running:
        place = running.enter_context(work.place("releases"))
        line = running.enter_context(NarrowLine(running.enter_context(_registry(place / "registry"))))
        name = f"{line.url.removeprefix('http://')}/app:{VERSION}"
        publisher, device = (running.enter_context(private_dockerd()) for _ in range(2))
        for number, image in enumerate(images, 1):
            _load(publisher, image, name)
            push, pull = (
                [*docker(engine), verb, "--quiet", name] for engine, verb in ((publisher, "push"), (device, "pull"))
            )
            yield _measured(line, number, "docker push", lambda: run(push, clean_env(place)))  # noqa: B023
            yield _measured(line, number, "docker pull, unpacked", lambda: run(pull, clean_env(place)))  # noqa: B023


def _load(engine: Engine, image: HandmadeImage, name: str) -> None:
    list(engine.client.api.load_image(docker_archive(image)))
    engine.client.api.tag(image.reference, *name.rsplit(":", 1))
    remove_image(engine, image.reference)


def _measured(line: NarrowLine, number: int, name: str, work: Callable[[], None]) -> Step:
    size, requests, started = line.sent + line.received, line.requests, time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    step = Step(number, name, (line.sent + line.received - size) / MIB, line.requests - requests, seconds)
    print(f"releases, {number} of {RELEASES}: {step.mib:8.2f} MiB {seconds:8.2f} s  {name}", file=sys.stderr)
    return step


@contextmanager
def _registry(directory: Path) -> Iterator[str]:
    """Run a registry with all its files in `directory`, and yield its URL. Raises Missing."""
    require_program("docker-registry")
    directory.mkdir()
    port = free_port()
    configuration = directory / "config.yml"
    configuration.write_text(REGISTRY_CONFIGURATION.format(directory=directory, port=port))
    command = ["docker-registry", "serve", str(configuration)]
    url = f"http://127.0.0.1:{port}"
    with ManagedProcess("registry", command, directory, env=clean_env(directory)) as process:
        process.wait_until(lambda: http_status(url, "/v2/") == 200, READY_SECONDS, "the registry responds")
        yield url
