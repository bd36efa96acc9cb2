"""The packers of the matrix: engines, and the files of other tools, each with the same images."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from loader.crypto.archive_head import Head
from loader.packing.verify import verify
from loader.references import full_reference
from tests.packing.hand_sources import Files, finish_layout, named, oci_files, put_image, put_index, tar_of
from tests.packing.packs import unwatched
from tests.support.archives import APP, DATABASE, PREFIX, remove_all_images
from tests.support.engines import Engine
from tests.support.handmade_image import FRAGMENT, HandmadeImage, HandmadeLayer, docker_archive
from tests.support.images import save_images
from tests.support.loader_server import REPOSITORY
from tests.support.missing import missing
from tests.support.processes import clean_env

ENGINES = ("docker_engine", "podman_engine", "docker_classic_26", "docker_containerd_26", "podman_5")
PACK_SECONDS = 60
AGAIN = f"{PREFIX}again:1.4"
NAMES = [APP, AGAIN, DATABASE]
SHARED = HandmadeLayer(b"a layer that two images share " * 100, 30, "shared.bin")
# It gains nothing from gzip, so that an archive has both codecs.
NOISE = HandmadeLayer(random.Random(5).randbytes(100_000), 1, "noise.bin")  # noqa: S311  every run needs the same bytes
SETTINGS = {"Env": ["MODE=field"], "Cmd": ["/run"], "User": "1000", "Labels": {"z": "<last>", "a": "ä"}}
# The names are full, because podman would put others below `localhost`.
IMAGE = HandmadeImage(f"docker.io/{APP}", (SHARED, NOISE), SETTINGS)
IMAGES = (IMAGE, replace(IMAGE, reference=f"docker.io/{AGAIN}"), HandmadeImage(f"docker.io/{DATABASE}", (SHARED,)))
PLATFORMS = {"amd64": IMAGE, "arm64": replace(IMAGE, architecture="arm64")}


@dataclass(frozen=True)
class Packer:
    """Packs from the engine of the fixture `engine` or, if there is `write`, from what that writes of the engine.

    `fill` is what the engine loads first. `names` are those that are packed.
    """

    engine: str
    write: Callable[[Engine, Path], Path] | None = None
    fill: bytes = b"".join(docker_archive(*IMAGES))
    names: tuple[str, ...] = tuple(NAMES)
    piped: bool = False

    def pack(self, engine: Engine, output: Path, codec: str) -> Head:
        """Pack the images into the archive `output`, and leave nothing in `engine`.

        Returns the head, of which every digest was proven, and which must be that of every other packer.
        """
        remove_all_images(engine)
        list(engine.client.api.load_image(self.fill))
        head = self._packed(engine, output, codec)
        remove_all_images(engine)
        wanted = set(map(full_reference, self.names))
        assert set(head.images) == {image.image for image in IMAGES if image.reference in wanted}
        return head

    def _packed(self, engine: Engine, output: Path, codec: str) -> Head:
        if self.write is None:
            return run_pack(output, codec, *self.names, host=engine.host)
        written = self.write(engine, output.parent / "source")
        if self.piped:
            return run_pack(output, codec, "--from", "-", stdin=written)
        return run_pack(output, codec, "--from", str(written))


def run_pack(output: Path, codec: str, *arguments: str, host: str = "", stdin: Path | None = None) -> Head:
    """Run `images pack` as a process, and return the head of the archive that it has written."""
    key = output.with_name("fragment.key")
    key.write_bytes(FRAGMENT)
    command = [sys.executable, "-m", "loader", "images", "pack", *arguments, "--compress", codec, "--version", "1.4"]
    command += ["--serial", "1", "--key", str(key), "--output", str(output)]
    with (stdin or Path("/dev/null")).open("rb") as source:
        done = subprocess.run(
            command,
            check=False,
            cwd=REPOSITORY,
            env=clean_env(output.parent, DOCKER_HOST=host or "unix:///nonexistent/docker.sock"),
            stdin=source,
            capture_output=True,
            text=True,
            timeout=PACK_SECONDS,
        )
    assert done.returncode == 0, done.stderr
    return verify(output, FRAGMENT, unwatched).head


def _docker_save(engine: Engine, path: Path) -> Path:
    return save_images(engine, NAMES, path)


def _podman_save(engine: Engine, path: Path) -> Path:
    names = [image.reference for image in IMAGES]
    save = ["save", "--format", "docker-archive", "--multi-image-archive", "--output", str(path), *names]
    _run("podman", "--remote", "--url", engine.host, *save)
    return path


def _skopeo_directory(_engine: Engine, path: Path) -> Path:
    """Copy from an OCI layout to another one; skopeo rewrites configurations only between OCI and Docker."""
    for image in IMAGES:
        origin = path.with_name("origin.tar")
        origin.write_bytes(tar_of(oci_files(image)))
        _run("skopeo", "--insecure-policy", "copy", f"oci-archive:{origin}", f"oci:{path}:{image.reference}")
    return path


def _skopeo_archive(engine: Engine, path: Path) -> Path:
    """Copy one image from an engine, because skopeo does not add to an archive."""
    source = ("--src-daemon-host", engine.host, f"docker-daemon:{APP}")
    target = ("--additional-tag", IMAGES[1].reference, f"docker-archive:{path}:{IMAGE.reference}")
    _run("skopeo", "--insecure-policy", "copy", *target[:2], *source, target[2])
    return path


def _run(program: str, *arguments: str) -> None:
    if shutil.which(program) is None:
        missing(program, "it is not installed")
    subprocess.run([program, *arguments], check=True, capture_output=True, timeout=PACK_SECONDS)


ENGINE_PACKERS = {engine: Packer(engine) for engine in ENGINES}
FILE_PACKERS = {
    "save of Docker 20.10": Packer("docker_engine", _docker_save),
    "save of Docker 26.1": Packer("docker_classic_26", _docker_save),
    "save of containerd": Packer("docker_containerd_26", _docker_save),
    "standard input": Packer("docker_classic_26", _docker_save, piped=True),
    "save of podman": Packer("podman_engine", _podman_save),
    "directory of skopeo": Packer("docker_engine", _skopeo_directory),
    "archive of skopeo": Packer("docker_engine", _skopeo_archive, names=(APP, AGAIN)),
    # The containerd store keeps layers as it gets them.
    "containerd with gzip": Packer("docker_containerd_26", fill=tar_of(oci_files(*IMAGES, compressed=True))),
}
PACKERS = ENGINE_PACKERS | FILE_PACKERS


def attested_layout() -> bytes:
    """Return an image for two platforms with the attestation of one, as buildx writes them."""
    files: Files = {}
    amd64, arm64 = (
        put_image(files, image, compressed=True, platform={"os": "linux", "architecture": architecture})
        for architecture, image in PLATFORMS.items()
    )
    statement = put_image(
        files,
        replace(IMAGE, architecture="unknown"),
        platform={"os": "unknown", "architecture": "unknown"},
        annotations={
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": amd64["digest"],
        },
    )
    return tar_of(finish_layout(files, put_index(files, [amd64, arm64, statement], **named(IMAGE.reference))))
