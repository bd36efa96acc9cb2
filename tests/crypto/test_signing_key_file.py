"""Files of signing keys: sealed under a passphrase or not, damaged, hostile, and open to others."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest

from loader.crypto import signing_key_file
from loader.crypto.signatures import SigningKey
from loader.crypto.signing_key_file import BadSigningKey, read_signing_key, seal_signing_key
from tests.crypto.reference import ReferenceCipher
from tests.support.flips import flipped
from tests.support.publishers import ANNA, BEN, pem_of

PASSPHRASE = "naïve correct horse 電池"
SALT = bytes(range(16))
LEAST = 14


def sealed_by_the_document(pem: bytes, header: dict[str, object]) -> bytes:
    """Return the file that docs/formats.md describes, made without the code of the loader."""
    body = json.dumps(header).encode()
    raw = b"AZSIGKEY" + len(body).to_bytes(4, "big") + body
    key = hashlib.scrypt(PASSPHRASE.encode(), salt=SALT, n=1 << LEAST, r=8, p=1, dklen=32)
    return with_digest(raw + ReferenceCipher(key, b"azaion-loader/2 signing key\0" + raw).seal(pem))


def with_digest(data: bytes) -> bytes:
    return data + hashlib.sha256(data).digest()


def parameters(log_n: object = LEAST, salt: bytes = SALT) -> dict[str, object]:
    return {"log_n": log_n, "salt": base64.b64encode(salt).decode()}


def read(path: Path, data: bytes, *passphrases: str, mode: int = 0o600) -> SigningKey:
    """Write a file of this content, and read it; without a passphrase nobody can be asked."""
    path.write_bytes(data)
    path.chmod(mode)
    with path.open("rb") as file:
        return read_signing_key(file, iter(passphrases).__next__ if passphrases else None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "anna.key"


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The file of a key; scrypt takes an eighth of its time."""
    monkeypatch.setattr(signing_key_file, "LOG_N", LEAST)
    return seal_signing_key(ANNA, PASSPHRASE)


def test_a_sealed_key_is_opened_by_its_passphrase_alone(path: Path, sealed: bytes) -> None:
    assert read(path, sealed, PASSPHRASE).public == ANNA.public
    for wrong in (PASSPHRASE.upper(), PASSPHRASE + " ", "x"):
        with pytest.raises(BadSigningKey, match=r"^does not open with this passphrase$"):
            read(path, sealed, wrong)


def test_a_new_file_takes_128_mib_and_tells_nothing_of_the_key() -> None:
    sealed = seal_signing_key(ANNA, PASSPHRASE)
    size = int.from_bytes(sealed[8:12], "big")
    assert json.loads(sealed[12 : 12 + size])["log_n"] == 17
    assert ANNA.public not in sealed
    assert base64.b64encode(ANNA.public) not in sealed
    assert b"PRIVATE" not in sealed
    assert len(sealed) < signing_key_file.MAX_FILE_SIZE


def test_two_files_of_one_key_and_passphrase_have_nothing_in_common(sealed: bytes) -> None:
    first, second = (data[60:] for data in (sealed, seal_signing_key(ANNA, PASSPHRASE)))
    assert all(first[begin : begin + 8] not in second for begin in range(0, len(first), 8))


def test_the_document_describes_the_file(path: Path) -> None:
    data = sealed_by_the_document(BEN.to_pem(), parameters())
    assert read(path, data, PASSPHRASE).public == BEN.public


def test_the_greatest_cost_is_paid(path: Path) -> None:
    """The key of the file was derived at another cost, so it does not open; scrypt had the memory to find that out."""
    with pytest.raises(BadSigningKey, match=r"^does not open with this passphrase$"):
        read(path, sealed_by_the_document(BEN.to_pem(), parameters(18)), PASSPHRASE)


def test_a_sealed_key_is_refused_where_nobody_can_be_asked(path: Path, sealed: bytes) -> None:
    with pytest.raises(BadSigningKey, match=r"^has a passphrase, and nobody can be asked for it here"):
        read(path, sealed)


def test_a_key_without_a_passphrase_asks_for_none(path: Path) -> None:
    assert read(path, ANNA.to_pem()).public == ANNA.public


def test_damage_is_told_from_a_wrong_passphrase_before_anybody_is_asked(path: Path, sealed: bytes) -> None:
    flips = (flipped(sealed, position) for position in range(len(sealed)))
    for damaged in (*flips, sealed[:-1], sealed + b"\0", sealed[:100], sealed[8:], sealed[:8], b""):
        with pytest.raises(BadSigningKey, match=r"^is (a damaged|no) signing key: ."):
            read(path, damaged)


@pytest.mark.parametrize(
    "header",
    [
        *map(parameters, (19, 30, 63, 1 << 40, 13, 0, -1, True, 14.0, "14", None)),
        parameters(salt=SALT[1:]),
        parameters(salt=SALT * 2),
        {**parameters(), "p": 1 << 30},
        {"log_n": LEAST},
        {},
    ],
    ids=str,
)
def test_parameters_of_a_hostile_file_take_no_memory(
    path: Path, header: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest is right, so that the parameters alone are the reason."""
    data = sealed_by_the_document(ANNA.to_pem(), header)
    monkeypatch.setattr(hashlib, "scrypt", lambda *_, **__: pytest.fail("scrypt was run"))
    with pytest.raises(BadSigningKey, match=r"^is a damaged signing key: "):
        read(path, data, PASSPHRASE)


@pytest.mark.parametrize("content", [b"", b"no key", pem_of(bytes(31)), b"-----BEGIN PRIVATE KEY-----\n" + bytes(9000)])
def test_what_was_sealed_must_be_a_key(path: Path, content: bytes) -> None:
    with pytest.raises(BadSigningKey, match=r"^is no signing key: "):
        read(path, sealed_by_the_document(content, parameters()), PASSPHRASE)


def test_the_header_is_bound_to_what_is_sealed(path: Path) -> None:
    """JSON of the same meaning, with a right digest; an attacker cannot exchange it."""
    data = sealed_by_the_document(ANNA.to_pem(), parameters())
    other = with_digest(data[:-32].replace(b', "salt"', b' ,"salt"'))
    with pytest.raises(BadSigningKey, match=r"^does not open with this passphrase$"):
        read(path, other, PASSPHRASE)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o620, 0o602, 0o610, 0o601, 0o777])
def test_a_file_that_others_may_open_is_refused(path: Path, mode: int) -> None:
    with pytest.raises(BadSigningKey, match=r"^is open to other users.*chmod 600"):
        read(path, ANNA.to_pem(), mode=mode)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_its_owner_alone_is_read(path: Path, mode: int) -> None:
    assert read(path, ANNA.to_pem(), mode=mode).public == ANNA.public


def test_a_huge_file_is_not_read(path: Path) -> None:
    path.touch(0o600)
    os.truncate(path, 1 << 40)
    with (
        path.open("rb") as file,
        pytest.raises(BadSigningKey, match=r"^is no signing key: it has more than 4096 bytes"),
    ):
        read_signing_key(file)
