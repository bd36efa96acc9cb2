"""The decryption and the verification of an archive by whole processes that write to /dev/null."""

from __future__ import annotations

import secrets
import subprocess
from functools import partial
from pathlib import Path

from benchmarks.images import new_key
from benchmarks.measure import Contender, compare
from benchmarks.peers import process, python, require_module, require_program, run
from benchmarks.tables import Result
from benchmarks.workload import MIB, Workload
from loader.binary_split import open_archive
from loader.crypto.pieces import PieceDigests
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive


def decrypt(work: Workload) -> Result:
    """Compare the loader's code, Tink on the same file, and openssl and age on as much plaintext."""
    with work.place("decrypt") as place:
        key, archive = sealed(work.mib, place)
        ours = process(
            "loader, mode tar: hashed and decrypted in one pass",
            work.mib,
            python("benchmarks.decrypt_ours", archive, key),
        )
        peers = [
            partial(_tink, work, archive, key),
            partial(_openssl, work, place),
            partial(_age, work, place),
            partial(_start_of_ours, place),
        ]
        return compare("decrypt an archive", work.rounds, ours, peers)


def verify(work: Workload) -> Result:
    """Compare the pass that an unlock makes before the engine gets a byte with one digest of the same file."""
    with work.place("verify") as place:
        _, archive = sealed(work.mib, place)
        ours = Contender("loader, in a process that runs already", work.mib, partial(_authenticate, archive))
        command = python("loader", "images", "verify", archive)

        def on_one_core() -> Contender:
            require_program("taskset")
            return process("the same on one core", work.mib, ["taskset", "--cpu-list", "0", *command])

        def by_openssl() -> Contender:
            require_program("openssl")
            return process("openssl dgst -sha256", work.mib, ["openssl", "dgst", "-sha256", str(archive)])

        by_command = process("loader images verify, its start included", work.mib, command)
        return compare("authenticate an archive", work.rounds, ours, [by_openssl, lambda: by_command, on_one_core])


def _authenticate(path: Path) -> None:
    with open_archive(path) as archive:
        for blob in archive.head.blobs:
            digests = PieceDigests()
            for _ in archive.stored(blob).add_to(digests):
                pass
            assert digests.hex() == blob.stored


def sealed(mib: int, place: Path) -> tuple[Path, Path]:
    """Write a new key fragment and an archive of one image, whose layer has `mib` MiB. Return both paths."""
    key, archive, tar = new_key(place), place / "images.enc", place / "image.tar"
    image = HandmadeImage("azaion-bench/handmade:1", (HandmadeLayer(secrets.token_bytes(MIB), mib),))
    with tar.open("wb") as file:
        file.writelines(docker_archive(image))
    run(python("loader", "images", "pack", "--from", tar, "--compress", "none", "--key", key, "-o", archive))
    tar.unlink()
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
    identity, encrypted = str(place / "identity"), str(place / "data.age")
    run(["age-keygen", "-o", identity])
    recipient = subprocess.run(["age-keygen", "-y", identity], check=True, text=True, stdout=subprocess.PIPE).stdout
    run(["age", "-r", recipient.strip(), "-o", encrypted, str(data)])
    return ["age", "-d", "-i", identity, encrypted]


def _start_of_ours(place: Path) -> Contender:
    (place / "empty").mkdir()
    key, archive = sealed(0, place / "empty")
    command = python("benchmarks.decrypt_ours", archive, key)
    return process("loader on an empty archive: the start of Python in the first row", 0, command)
