"""Two releases of one image in four layers, as `docker save` writes them."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.images import service_files
from benchmarks.workload import MIB, Workload

# Of 1024 MiB in four layers, the sizes of three layers of noise and of the topmost, which has files of this machine.
SHARES = (404, 300, 300, 20)
# The topmost layer of an application has programs and libraries of this size and more. Small files cost the engine more
# time than their bytes do.
LARGE_FILE = 64 << 10


def noise_layers(work: Workload, place: Path) -> Iterator[Path]:
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


def top_layer(work: Workload, path: Path, smallest: int = LARGE_FILE) -> Path:
    """Write a layer with files of this machine, of at least `smallest` bytes each."""
    size = work.mib * MIB * SHARES[-1] // sum(SHARES)
    with tarfile.open(path, "w") as tar:
        for file in service_files(size, smallest):
            tar.add(file, recursive=False)
    return path


def changed_layer(layer: Path, path: Path) -> Path:
    """Write another layer that has one file more."""
    shutil.copyfile(layer, path)
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo("changed"))
    return path


def docker_archive(path: Path, name: str, layers: list[Path]) -> Path:
    """Write a docker-archive of one image with these layers to `path`, and return it."""
    diff_ids = [f"sha256:{_sha256(layer)}" for layer in layers]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    names = [f"{number}/layer.tar" for number, _ in enumerate(layers)]
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": names}]
    with tarfile.open(path, "w") as tar:
        for name, layer in zip(names, layers, strict=True):
            tar.add(layer, name)
        for name, document in (("config.json", config), ("manifest.json", manifest)):
            data = json.dumps(document).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
