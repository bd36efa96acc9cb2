"""An update of one layer: packed with the earlier release as its base, carried without it, and installed."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.images import new_key
from benchmarks.measure import Contender, compare
from benchmarks.peers import process, python, run
from benchmarks.releases import changed_layer, docker_archive, noise_layers, top_layer
from benchmarks.tables import Figure, Figures, Result, Table
from benchmarks.workload import Workload
from loader.crypto.archive_head import Head
from loader.packing.verify import read_index
from tests.support.processes import clean_env

NAME = "azaion-bench/update"


def update(work: Workload) -> list[Table]:
    """Compare `images thin`, `join`, `install` and `pack --base` with copies of the archive, and the sizes."""
    with work.place("update") as place:
        scene = _Scene(work, place)
        title = "{} the archive of an update"
        return [
            scene.compare(title.format("thin"), scene.thin(), scene.copies),
            scene.compare(title.format("join"), scene.join(), scene.copies),
            scene.compare(title.format("install, thin,"), scene.install(), scene.copies),
            scene.compare("pack an update", scene.pack(), [scene.pack_without_base]),
            scene.sizes(),
        ]


class _Scene:
    """Two releases of one image and their archives in `place`."""

    def __init__(self, work: Workload, place: Path) -> None:
        self._work = work
        self._place = place
        self._key = new_key(place)
        self._old, self._new, self._delta = place / "old.enc", place / "new.enc", place / "delta.enc"
        self._output = place / "output"
        self._device = place / "device"
        layers = [*noise_layers(work, place), top_layer(work, place / "top.tar")]
        run(self._pack(docker_archive(place / "1.tar", f"{NAME}:1", layers), self._old))
        (place / "1.tar").unlink()
        self._top = changed_layer(layers.pop(), place / "changed.tar")
        self._source = docker_archive(place / "2.tar", f"{NAME}:2", [*layers, self._top])
        run(self._pack(self._source, self._new, "--base", self._old))
        run(self._thin(self._delta))

    def compare(self, title: str, ours: Contender, peers: list[Callable[[], Contender]]) -> Result:
        return compare(title, self._work.rounds, ours, peers)

    @property
    def copies(self) -> list[Callable[[], Contender]]:
        """A copy of the new archive that waits for the disk, as the loader does, and one that does not."""
        copy = ["cp", str(self._new), str(self._output)]
        synced = ["bash", "-c", f"{shlex.join(copy)} && sync {shlex.quote(str(self._output))}"]
        return [lambda: self._written("cp and sync", synced), lambda: self._written("cp", copy)]

    def thin(self) -> Contender:
        return self._written("loader images thin", self._thin(self._output))

    def join(self) -> Contender:
        command = python("loader", "images", "join", self._delta, "--base", self._old, "-o", self._output)
        return self._written("loader images join", command)

    def install(self) -> Contender:
        def prepare() -> None:
            shutil.rmtree(self._device, ignore_errors=True)
            self._device.mkdir()
            shutil.copyfile(self._old, self._device / "images.enc")

        env = clean_env(self._place, IMAGES_PATH=str(self._device / "images.enc"), API_VERSION="2")
        command = python("loader", "images", "install", self._delta)
        return process("loader images install", self._work.mib, command, prepare, env)

    def pack(self) -> Contender:
        return self._written("loader images pack --base", self._pack(self._source, self._output, "--base", self._old))

    def pack_without_base(self) -> Contender:
        return self._written("loader images pack", self._pack(self._source, self._output))

    def sizes(self) -> Figures:
        """Return the size of the thin archive beside that of the layer that changed."""
        head: Head = read_index(self._new).head
        layer = head.blob[head.images[0].layers[-1]]
        zipped = self._place / "top.gz"
        run(["bash", "-c", f"gzip -6 < {shlex.quote(str(self._top))} > {shlex.quote(str(zipped))}"])
        rows = {
            "the thin archive": self._delta.stat().st_size,
            "the changed layer, as its archive has it": layer.stored_size,
            "the changed layer, by gzip -6": zipped.stat().st_size,
            "the full archive": self._new.stat().st_size,
        }
        figures = tuple(Figure(name, "KiB", (size / 1024,)) for name, size in rows.items())
        return Figures("the size of an update", figures, ())

    def _written(self, name: str, command: list[str]) -> Contender:
        return process(name, self._work.mib, command, partial(self._output.unlink, missing_ok=True))

    def _pack(self, source: Path, output: Path, *options: str | Path) -> list[str]:
        return python("loader", "images", "pack", "--from", source, *options, "--key", self._key, "-o", output)

    def _thin(self, output: Path) -> list[str]:
        return python("loader", "images", "thin", self._new, "--base", self._old, "-o", output)
