"""Runs tests of the formats as a device with an ARM64 processor does: Debian's Python for it, under qemu.

    python -m tools.arm64

Only Python is emulated: there is no chroot, and the kernel need not know foreign programs. Needs root, mmdebstrap and
qemu-user-static. Ends with status 1 if a test has failed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from tests.packing.hand_sources import docker_files, tar_of
from tests.packing.shared_images import APP
from tests.support.debian_root import DebianUnavailable, cache, debian_root
from tests.support.flips import flip_in_file
from tests.support.handmade_image import FRAGMENT

REPOSITORY = Path(__file__).parents[1]
QEMU = "qemu-aarch64-static"
# The release whose Python has the version of the container image.
RELEASE, PYTHON = "bookworm", "3.11"
LOCK = "requirements.lock"
TEST_PACKAGES = ("pytest", "pytest-timeout", "hypothesis")
# They start no processes, because the kernel could not start the emulated Python.
TESTS = (
    "tests/crypto/test_processor.py",
    "tests/crypto/test_vectors.py",
    "tests/crypto/test_tampering.py",
    "tests/crypto/test_model_parts.py",
    "tests/binary_split/test_open.py",
    "tests/binary_split/test_tampering.py",
)
# Whole grids and random changes are left out, because they take minutes there and show nothing of the processor.
LEFT_OUT = "every or any_bytes or four"
# Assertions are left as they are, because rewriting them takes longer under qemu than the tests.
PYTEST = ("-m", "pytest", "-p", "no:cacheprovider", "--assert=plain", "-k", f"not ({LEFT_OUT})")
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:")
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_28_aarch64")


def main() -> int:
    """Return the exit status."""
    if shutil.which(QEMU) is None:
        return refused(f"{QEMU} is not installed")
    try:
        root = debian_root(RELEASE, "--architectures=arm64", f"--include=python{PYTHON}")
    except DebianUnavailable as exc:
        return refused(str(exc))
    path = os.pathsep.join(map(str, packages()))
    emulated = (QEMU, "-L", str(root), "-E", f"PYTHONPATH={path}", str(root / f"usr/bin/python{PYTHON}"))
    passed = subprocess.run([*emulated, *PYTEST, *TESTS], cwd=REPOSITORY, check=False).returncode == 0
    return 0 if passed and agrees(emulated) else 1


def refused(reason: str) -> int:
    """Print why nothing was run, and return the exit status."""
    print(f"arm64: {reason}", file=sys.stderr)
    return 1


def packages() -> list[Path]:
    """Return the directories of the locked packages and of those that the tests need, installed once per machine."""
    for_tests = [f"{name}=={version(name)}" for name in TEST_PACKAGES]
    key = hashlib.sha256((REPOSITORY / LOCK).read_bytes() + repr(for_tests).encode()).hexdigest()[:16]
    directory = cache() / f"arm64-packages-{key}"
    if not directory.exists():
        with tempfile.TemporaryDirectory(dir=cache()) as temporary:
            made = Path(temporary) / "packages"
            install(made / "locked", "--require-hashes", "--requirement", LOCK)
            install(made / "for-tests", *for_tests)
            made.rename(directory)
    return [directory / "locked", directory / "for-tests"]


def install(target: Path, *wanted: str) -> None:
    """Install wheels for ARM64 into a directory. None of their code runs."""
    platforms = [f"--platform={name}" for name in PLATFORMS]
    command = [sys.executable, *PIP, *platforms, f"--python-version={PYTHON}", f"--target={target}", *wanted]
    subprocess.run(command, cwd=REPOSITORY, check=True)


def agrees(emulated: Sequence[str]) -> bool:
    """Return whether `images verify` says the same under `emulated` as here, of an archive that was packed here.

    The archive is verified whole, and once more after one of its bytes has changed.
    """
    with tempfile.TemporaryDirectory() as directory:
        archive, key, source = (Path(directory) / name for name in ("images.enc", "fragment.key", "images.tar"))
        key.write_bytes(FRAGMENT)
        source.write_bytes(tar_of(docker_files(APP)))
        images((sys.executable,), "pack", "--from", source, "--key", key, "-o", archive)
        whole = [images(python, "verify", archive, "--key", key) for python in ((sys.executable,), emulated)]
        flip_in_file(archive, archive.stat().st_size // 2)
        damaged = [images(python, "verify", archive, "--key", key) for python in ((sys.executable,), emulated)]
    print(f"images verify under qemu: {whole[1][1]}\n{damaged[1][1]}")
    return whole[0] == whole[1] and damaged[0] == damaged[1] and whole[0][0] == 0 != damaged[0][0]


def images(python: Sequence[str], *arguments: str | Path) -> tuple[int, str]:
    """Return the exit code of `azaion-loader images` under `python`, and its output with the error at the end."""
    command = [*python, "-m", "loader", "images", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    error = "" if done.returncode == 0 else "".join(done.stderr.splitlines()[-1:])
    return done.returncode, done.stdout + error


if __name__ == "__main__":
    sys.exit(main())
