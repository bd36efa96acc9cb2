"""Images without a registry: a root file system is made in memory and imported into an engine."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import tarfile
from collections.abc import Iterable
from contextlib import closing, suppress
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode

import docker
import docker.errors

from loader.crypto.archive_head import Image
from loader.docker_engine import DockerEngine
from loader.references import full_reference
from tests.support.engines import CALL_SECONDS, Engine
from tests.support.http_probe import connect

MIB = 1024 * 1024
MESSAGE_BYTES = 1_000
FILES = {"etc/motd": b"a device image made by the tests\n", "app/model.txt": b"weights\n"}


def holds(engine: DockerEngine, expected: Iterable[Image]) -> bool:
    """Return whether every expected image is in the engine under its name, as the plan of an unlock looks for it."""
    found = ((image, engine.find(image.reference)) for image in expected)
    return all(present is not None and present.is_image_of(image) for image, present in found)


def rootfs_tar(*, random_mib: int = 0, seed: int = 0) -> bytes:
    """Return a tar of a few files and `random_mib` MiB that do not compress. Equal arguments give equal bytes."""
    noise = random.Random(seed)  # noqa: S311  every run needs the same bytes
    contents = {**FILES, "app/seed": str(seed).encode()}
    if random_mib:
        contents["app/noise.bin"] = b"".join(noise.randbytes(MIB) for _ in range(random_mib))
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, data in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()


def import_image(engine: Engine, reference: str, *, random_mib: int = 0, seed: int = 0) -> str:
    """Import `rootfs_tar` into `engine` under `reference` (`name:tag`), and return the ID (`sha256:...`) of the image.

    Two imports of the same files make two images, because the engine writes the time into each.
    """
    # The whole reference goes into the parameter `repo`, because podman 4.3 ignores `tag`.
    engine.client.api.import_image_from_data(rootfs_tar(random_mib=random_mib, seed=seed), repository=reference)
    return image_id(engine, reference)


def image_id(engine: Engine, reference: str) -> str:
    """Return the ID of the image. Raises docker.errors.NotFound."""
    found: str = engine.client.images.get(reference).id
    return found


def has_image(engine: Engine, reference: str) -> bool:
    """Return whether `reference` names an image in `engine`."""
    try:
        image_id(engine, reference)
    except docker.errors.NotFound:  # podman does not raise the subclass ImageNotFound
        return False
    return True


def remove_image(engine: Engine, reference: str) -> None:
    """Remove `reference` if it exists, and its image if it has no other name."""
    with suppress(docker.errors.NotFound):
        engine.client.images.remove(reference, force=True)


def unnamed_images(engine: Engine) -> list[str]:
    """Return the IDs of the images in `engine` that have no name."""
    return [image.id for image in engine.client.images.list(filters={"dangling": True})]


def save_images(engine: Engine, references: list[str], path: Path) -> Path:
    """Write `references` to `path` in the form of `docker save`, with their names, and return `path`."""
    # This calls the engine's API directly, because the SDK saves only one image.
    with closing(connect(engine.host, CALL_SECONDS)) as connection, path.open("wb") as target:
        connection.request("GET", "/images/get?" + urlencode({"names": references}, doseq=True))
        with connection.getresponse() as response:
            if response.status != HTTPStatus.OK:
                raise AssertionError(f"the engine saves no {references}: {response.read(MESSAGE_BYTES)!r}")
            shutil.copyfileobj(response, target)
    return path


def saved_images(engine: Engine, references: list[str], path: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return, by full names, the digests of configurations and layers that the engine saves, from their content."""
    with tarfile.open(save_images(engine, references, path)) as tar:

        def read(name: str) -> bytes:
            file = tar.extractfile(name)
            assert file is not None
            return file.read()

        def digest(name: str) -> str:
            return f"sha256:{hashlib.sha256(read(name)).hexdigest()}"

        return {
            full_reference(name): (digest(entry["Config"]), tuple(map(digest, entry["Layers"])))
            for entry in json.loads(read("manifest.json"))
            for name in entry["RepoTags"]
        }
