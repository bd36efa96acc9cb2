"""Ed25519 signatures of heads: the vectors of RFC 8032, OpenSSL as a peer, and everything that is no signature."""

from __future__ import annotations

import hashlib
import subprocess
import time
from pathlib import Path

import pytest

from loader.crypto import archive_head, signatures
from loader.crypto.archive_head import StoredHead
from loader.crypto.json_header import MAX_SIGNATURES, Signature
from loader.crypto.signatures import SigningKey, find_signers, is_valid
from loader.publisher_keys import PublisherKey, PublisherKeys
from tests.crypto.reference_archive import ReferenceBlob, ReferenceImage, framed_json, head_of
from tests.crypto.test_archive_seals import stored_head
from tests.support.flips import flipped
from tests.support.publishers import ANNA, BEN, EVE, TRUSTED, numbered_keys, pem_of
from tests.test_publisher_keys import encoded, torsion

IMAGE = ReferenceImage("a.b/c:1", (ReferenceBlob(b"layer"),))
STORED = stored_head(head_of([IMAGE]))
LATER = stored_head(head_of([ReferenceImage("a.b/c:2", IMAGE.layers)]))
ORDER = 2**252 + 27742317777372353535851937790883648493
# RFC 8032, section 7.1: private key, public key, message, signature.
VECTORS = {
    "TEST 1": (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        b"",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe"
        "24655141438e7a100b",
    ),
    "TEST 2": (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        b"\x72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302a"
        "eeb00d291612bb0c00",
    ),
    "TEST 3": (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        b"\xaf\x82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed2"
        "8dc027beceea1ec40a",
    ),
    "TEST SHA(abc)": (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").digest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac1"
        "7ad9bef1177331a704",
    ),
}


@pytest.mark.parametrize(("seed", "public", "message", "signature"), VECTORS.values(), ids=VECTORS)
def test_the_vectors_of_the_standard(
    seed: str, public: str, message: bytes, signature: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The messages of the standard have no label."""
    monkeypatch.setattr(archive_head, "RELEASE_LABEL", b"")
    key, stored = SigningKey.parse(pem_of(bytes.fromhex(seed))), StoredHead(STORED.head, message)
    expected = Signature(bytes.fromhex(public), bytes.fromhex(signature))
    assert key.sign(stored) == expected
    assert is_valid(expected, stored)
    assert not is_valid(expected, StoredHead(STORED.head, message + b"\0"))


def openssl(directory: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], cwd=directory, input=stdin, capture_output=True, check=True).stdout


def test_openssl_reads_our_keys_and_accepts_our_signatures(tmp_path: Path) -> None:
    """What is signed is written down here once more, by docs/formats.md."""
    (tmp_path / "key").write_bytes(ANNA.to_pem())
    (tmp_path / "signed").write_bytes(b"azaion-loader/2 release\0" + framed_json(head_of([IMAGE])))
    (tmp_path / "signature").write_bytes(ANNA.sign(STORED).signature)
    public = openssl(tmp_path, "pkey", "-in", "key", "-pubout", "-outform", "DER")
    assert public[-32:] == ANNA.public
    verify = ("pkeyutl", "-verify", "-inkey", "key", "-rawin", "-in", "signed", "-sigfile", "signature")
    assert b"Verified Successfully" in openssl(tmp_path, *verify)


def test_we_read_keys_of_openssl_and_accept_its_signatures(tmp_path: Path) -> None:
    openssl(tmp_path, "genpkey", "-algorithm", "ed25519", "-out", "key")
    key = SigningKey.parse((tmp_path / "key").read_bytes())
    (tmp_path / "signed").write_bytes(b"azaion-loader/2 release\0" + STORED.raw)
    signature = openssl(tmp_path, "pkeyutl", "-sign", "-inkey", "key", "-rawin", "-in", "signed")
    assert key.sign(STORED) == Signature(key.public, signature)
    assert is_valid(Signature(key.public, signature), STORED)


@pytest.mark.parametrize(
    "arguments",
    [
        ("genpkey", "-algorithm", "ed448"),
        ("genpkey", "-algorithm", "x25519"),
        ("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
        ("genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:secret"),
        ("genpkey", "-algorithm", "ed25519", "-outform", "DER"),
    ],
    ids=" ".join,
)
def test_other_keys_are_refused(arguments: tuple[str, ...], tmp_path: Path) -> None:
    pem = openssl(tmp_path, *arguments)
    with pytest.raises(ValueError, match="it is no"):
        SigningKey.parse(pem)


def test_what_is_no_private_key_is_refused() -> None:
    pem = ANNA.to_pem()
    for broken in (b"", b"x" * 32, pem[:-30], pem[30:], pem.replace(b"M", b"\xff"), pem.replace(b"M", b"*"), pem[:60]):
        with pytest.raises(ValueError, match="it is no"):
            SigningKey.parse(broken)


def test_keys_are_random_and_are_read_back() -> None:
    keys = [SigningKey.new() for _ in range(20)]
    assert len({key.public for key in keys}) == 20
    assert [SigningKey.parse(key.to_pem()).public for key in keys] == [key.public for key in keys]


def test_every_byte_that_is_signed_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Label, length and head. Of the long head every byte of its ends, and every eleventh between them, is flipped."""
    signature, size = ANNA.sign(STORED), len(STORED.raw)
    for position in sorted({*range(24), *range(24, size, 11), *range(size - 20, size)}):
        assert not is_valid(signature, StoredHead(STORED.head, flipped(STORED.raw, position))), position
    for raw in (STORED.raw[:-1], STORED.raw + b"\0", STORED.raw[4:], b""):
        assert not is_valid(signature, StoredHead(STORED.head, raw))
    label = archive_head.RELEASE_LABEL
    for other in (*(flipped(label, position) for position in range(len(label))), label[:-1], b"", label + b"\0"):
        monkeypatch.setattr(archive_head, "RELEASE_LABEL", other)
        assert not is_valid(signature, STORED), other


def test_every_byte_of_a_signature_and_of_its_key_counts() -> None:
    right = ANNA.sign(STORED)
    assert is_valid(right, STORED)
    for position in range(64):
        assert not is_valid(Signature(right.key, flipped(right.signature, position)), STORED), position
    for position in range(32):
        assert not is_valid(Signature(flipped(right.key, position), right.signature), STORED), position


def test_another_head_or_another_key_is_not_what_was_signed() -> None:
    right = ANNA.sign(STORED)
    assert not is_valid(right, LATER)
    assert not is_valid(Signature(BEN.public, right.signature), STORED)
    assert ANNA.sign(LATER) != right == ANNA.sign(STORED)


def test_a_second_form_of_a_signature_is_refused() -> None:
    """S is smaller than the order of the group (RFC 8032, section 5.1.7)."""
    right = ANNA.sign(STORED)
    larger = int.from_bytes(right.signature[32:], "little") + ORDER
    assert not is_valid(Signature(right.key, right.signature[:32] + larger.to_bytes(32, "little")), STORED)


@pytest.mark.parametrize("key", [encoded(point) for point in torsion()], ids=bytes.hex)
def test_nobody_signs_under_a_key_of_small_order(key: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """R neutral and S = 0 need no private key. Crypto alone accepts that for every head."""
    forged = Signature(key, encoded((0, 1)) + bytes(32))
    assert not is_valid(forged, STORED)
    monkeypatch.setattr(signatures, "require_sound", lambda _: None)
    assert is_valid(forged, STORED)
    assert is_valid(forged, LATER)


def test_the_signers_are_the_trusted_ones_with_valid_signatures() -> None:
    anna, ben, eve = (key.sign(STORED) for key in (ANNA, BEN, EVE))
    found = find_signers(STORED, [eve, anna, BEN.sign(LATER)], TRUSTED)
    assert [signer.name for signer in found] == ["anna"]
    assert [signer.name for signer in find_signers(STORED, [ben, anna], TRUSTED)] == ["ben", "anna"]
    for none in ([], [eve], [ANNA.sign(LATER)], [Signature(ANNA.public, eve.signature)]):
        assert not list(find_signers(STORED, none, TRUSTED))


def test_signatures_of_strangers_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most as many signatures cost time as there are trusted keys."""
    monkeypatch.setattr(signatures, "is_valid", lambda *_: pytest.fail("a stranger's signature was verified"))
    strangers = [key.sign(STORED) for key in numbered_keys(MAX_SIGNATURES)]
    assert not list(find_signers(STORED, strangers, TRUSTED))


def test_a_check_takes_milliseconds() -> None:
    """The bar is 5 ms; the best of many counts, because other work disturbs each of them."""
    signature, trusted = ANNA.sign(STORED), PublisherKeys((PublisherKey("anna", ANNA.public),))
    seconds = []
    for _ in range(30):
        started = time.perf_counter()
        assert any(find_signers(STORED, [signature], trusted))
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.005
