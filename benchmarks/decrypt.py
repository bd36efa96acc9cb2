"""The decryption of an archive by whole processes that write to /dev/null."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.measure import Contender, compare
from benchmarks.peers import process, python, require_module, require_program, run
from benchmarks.tables import Result
from benchmarks.workload import MIB, Workload
from loader.crypto.archive import Manifest, ManifestImage, seal_archive
from loader.crypto.segments import key_check

NO_IMAGE = ManifestImage("bench:1", f"sha256:{'0' * 64}", (f"sha256:{'0' * 64}",), "2024-01-01T00:00:00Z")


def decrypt(work: Workload) -> Result:
    """Compare the loader's code, Tink on the same file, and openssl and age on the same plaintext."""
    with work.place("decrypt") as place:
        key, archive = sealed(work.data, place)
        ours = process("loader, every byte verified", work.mib, python("benchmarks.decrypt_ours", archive, key))
        peers = [
            partial(_tink, work, archive, key),
            partial(_openssl, work, place),
            partial(_age, work, place),
            partial(_start_of_ours, place, key),
        ]
        return compare("decrypt an archive", work.rounds, ours, peers)


def sealed(tar: Path, place: Path) -> tuple[Path, Path]:
    """Write a new key fragment and an archive of `tar` that is made with it. Return both paths."""
    key, archive = place / "fragment.key", place / "images.enc"
    key.write_bytes(secrets.token_bytes(32))
    _seal(tar, archive, key.read_bytes())
    return key, archive


def _tink(work: Workload, archive: Path, key: Path) -> Contender:
    require_module("tink")
    command = python("benchmarks.decrypt_tink", archive, key)
    return process("Tink's Python package, same file", work.mib, command)


def _openssl(work: Workload, place: Path) -> Contender:
    return process("openssl enc -d -aes-256-ctr, verifies nothing", work.mib, openssl_decrypt(work.data, place))


def openssl_encrypt() -> list[str]:
    """Return a command that encrypts standard input to standard output under a new key. Raises Missing."""
    require_program("openssl")
    return ["openssl", "enc", "-aes-256-ctr", "-K", secrets.token_hex(32), "-iv", secrets.token_hex(16)]


def openssl_decrypt(data: Path, place: Path) -> list[str]:
    """Encrypt `data` with openssl in `place`. Return the command that decrypts it to stdout. Raises Missing."""
    cipher = openssl_encrypt()
    encrypted = str(place / "data.ctr")
    run([*cipher, "-in", str(data), "-out", encrypted])
    return [*cipher, "-d", "-in", encrypted]


def _age(work: Workload, place: Path) -> Contender:
    return process("age -d, every byte verified", work.mib, age_decrypt(work.data, place))


def age_decrypt(data: Path, place: Path) -> list[str]:
    """Encrypt `data` with age in `place`. Return the command that decrypts it to standard output. Raises Missing."""
    require_program("age")
    require_program("age-keygen")
    identity, sealed = str(place / "identity"), str(place / "data.age")
    run(["age-keygen", "-o", identity])
    recipient = subprocess.run(["age-keygen", "-y", identity], check=True, text=True, stdout=subprocess.PIPE).stdout
    run(["age", "-r", recipient.strip(), "-o", sealed, str(data)])
    return ["age", "-d", "-i", identity, sealed]


def _start_of_ours(place: Path, key: Path) -> Contender:
    empty = place / "empty"
    empty.touch()
    _seal(empty, place / "empty.enc", key.read_bytes())
    command = python("benchmarks.decrypt_ours", place / "empty.enc", key)
    return process("loader on an empty archive: the start of Python in the first row", 0, command)


def _seal(tar: Path, archive: Path, fragment: bytes) -> None:
    manifest = Manifest((NO_IMAGE,), tar.stat().st_size, key_check(fragment), "2024-01-01T00:00:00Z")
    with archive.open("wb") as file:
        for piece in seal_archive(manifest, _pieces(tar), fragment):
            file.write(piece)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(MIB):
            yield piece
