"""An update of one layer: packed with the earlier release as its base, carried without it, and installed."""

from __future__ import annotations

import hashlib
import io
import json
import shlex
import shutil
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.images import new_key, service_files
from benchmarks.measure import Contender, compare
from benchmarks.peers import process, python, run
from benchmarks.tables import Figure, Figures, Result, Table
from benchmarks.workload import MIB, Workload
from loader.crypto.archive_head import Head
from loader.packing.verify import read_index
from tests.support.processes import clean_env

# Of 1024 MiB in four layers, the sizes of the three that stay and of the topmost, which changes.
SHARES = (404, 300, 300, 20)


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
        layers = [*_noise_layers(work, place), _top_layer(work, place / "top.tar")]
        run(self._pack(_source(place, "1", layers), self._old))
        (place / "1.tar").unlink()
        self._top = _changed(layers.pop(), place / "changed.tar")
        self._source = _source(place, "2", [*layers, self._top])
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


def _noise_layers(work: Workload, place: Path) -> Iterator[Path]:
    """Write the layers that stay, with the data of the workload, which does not compress."""
    with work.data.open("rb") as data:
        for number, share in enumerate(SHARES[:-1]):
            path = place / f"layer{number}.tar"
            size = work.mib * MIB * share // sum(SHARES)
            with tarfile.open(path, "w") as tar:
                entry = tarfile.TarInfo("data.bin")
                entry.size = size
                tar.addfile(entry, data)
            yield path


def _top_layer(work: Workload, path: Path) -> Path:
    """Write a layer with files of this machine."""
    size = work.mib * MIB * SHARES[-1] // sum(SHARES)
    with tarfile.open(path, "w") as tar:
        for file in service_files(size):
            tar.add(file, recursive=False)
    return path


def _changed(layer: Path, path: Path) -> Path:
    """Write another layer that has one file more."""
    shutil.copyfile(layer, path)
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo("changed"))
    return path


def _source(place: Path, tag: str, layers: list[Path]) -> Path:
    """Write a docker-archive of one image with these layers."""
    diff_ids = [f"sha256:{_sha256(layer)}" for layer in layers]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    names = [f"{number}/layer.tar" for number, _ in enumerate(layers)]
    manifest = [{"Config": "config.json", "RepoTags": [f"azaion-bench/update:{tag}"], "Layers": names}]
    with tarfile.open(place / f"{tag}.tar", "w") as tar:
        for name, layer in zip(names, layers, strict=True):
            tar.add(layer, name)
        for name, document in (("config.json", config), ("manifest.json", manifest)):
            data = json.dumps(document).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return place / f"{tag}.tar"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
