"""Who may replace what a device runs: with PUBLISHER_KEYS set, nothing but a release that a publisher has signed.

The forgers here have all that an operator has, an account and the key fragment, and may write to the disk. Each forged
archive is refused before the login, before the engine is asked anything, and in the plan.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from loader.crypto.archive_head import StoredHead
from loader.crypto.json_header import Signature
from loader.crypto.signatures import SigningKey
from tests.support.archive_parts import Parts
from tests.support.archives import APP
from tests.support.engines import Engine
from tests.support.handmade_image import FRAGMENT, HandmadeImage, HandmadeLayer, docker_archive
from tests.support.http_calls import call
from tests.support.publishers import ANNA, BEN, EVE
from tests.support.unlocking import READY
from tests.unlock.forgers import Made, made
from tests.unlock.watched_device import WatchedDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

EVIL = HandmadeImage(APP, (HandmadeLayer(b"malicious" * 500),))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("good") / "images.enc", b"published" * 500, 7)


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("evil") / "images.enc", b"malicious" * 500, 7)


def restated(archive: Made) -> bytes:
    """Return the signed archive with another serial in its head, sealed again with the fragment."""
    head = dataclasses.replace(archive.index.head, release=dataclasses.replace(archive.index.head.release, serial=8))
    index = dataclasses.replace(archive.index, stored=StoredHead.of(head))
    return Made(index, archive.blobs).with_seals(ANNA.sign(archive.index.stored))


def mixed(archive: Made, signed: Made) -> bytes:
    """Return an archive with the signed seals of another."""
    return dataclasses.replace(Parts.of(archive.signed()), seals=Parts.of(signed.signed(ANNA)).seals).joined()


FORGERIES: dict[str, Callable[[Made, Made], bytes]] = {
    "unsigned": lambda _, evil: evil.signed(),
    "signed by a stranger": lambda _, evil: evil.signed(EVE),
    "a signature of another release": lambda good, evil: evil.with_seals(ANNA.sign(good.index.stored)),
    "a stranger's signature in the name of a publisher": lambda _, evil: evil.with_seals(
        Signature(ANNA.public, EVE.sign(evil.index.stored).signature)
    ),
    "a publisher's signature in the name of another": lambda good, _: good.with_seals(
        Signature(BEN.public, ANNA.sign(good.index.stored).signature)
    ),
    "every publisher's name, and a stranger": lambda good, evil: evil.with_seals(
        ANNA.sign(good.index.stored), BEN.sign(good.index.stored), EVE.sign(evil.index.stored)
    ),
    "empty signatures": lambda _, evil: evil.with_seals(Signature(ANNA.public, bytes(64))),
    "a signed release whose signature was removed": lambda good, _: good.signed(),
    "a signed release with another serial": lambda good, _: restated(good),
    "the seals of a signed release": lambda good, evil: mixed(evil, good),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_release_reaches_neither_the_login_nor_the_engine(
    careful: WatchedDevice, good: Made, evil: Made, forge: Callable[[Made, Made], bytes]
) -> None:
    archive = forge(good, evil)
    careful.assert_refused(archive, {"UNTRUSTED_PUBLISHER"}, "unlock")
    assert careful.api_paths == []
    assert careful.engine_paths == []
    call(careful.operator.loader.url, "GET", "/unlock/plan").problem(500, "UNTRUSTED_PUBLISHER")
    assert careful.engine_paths == []


def test_a_forged_release_is_not_ready_though_its_images_are_there(
    careful: WatchedDevice, docker: Engine, evil: Made
) -> None:
    docker.client.images.load(b"".join(docker_archive(EVIL)))
    careful.assert_refused(evil.signed(EVE), {"UNTRUSTED_PUBLISHER"}, "images there")
    assert careful.engine_paths == []


def test_blobs_of_another_release_do_not_pass_a_signed_head(careful: WatchedDevice, good: Made, evil: Made) -> None:
    """Signature and MAC are right; the digests of the head are not those of the blobs."""
    forged = Made(good.index, evil.blobs).signed(ANNA)
    careful.assert_refused(forged, {"ARCHIVE_CORRUPT"}, "blobs of another")
    assert careful.loads == []


def test_a_signature_does_not_replace_the_key_fragment(careful: WatchedDevice, good: Made) -> None:
    other = good.with_seals(ANNA.sign(good.index.stored), fragment=FRAGMENT[::-1])
    careful.assert_refused(other, {"KEY_MISMATCH"}, "another fragment")


def test_a_cut_archive_is_corrupt_before_it_is_untrusted(careful: WatchedDevice, good: Made) -> None:
    for archive in (good.signed(ANNA), good.signed(EVE)):
        careful.assert_refused(archive[:-1], {"ARCHIVE_CORRUPT"}, "cut")


@pytest.mark.parametrize("keys", [(ANNA,), (EVE, BEN), (ANNA, BEN)], ids=["anna", "a stranger and ben", "both"])
def test_one_trusted_signature_is_enough(
    careful: WatchedDevice, docker: Engine, good: Made, keys: tuple[SigningKey, ...]
) -> None:
    archive = good.signed(*keys)
    assert careful.plan(archive)["release"]["serial"] == 7
    assert careful.unlock(archive) == READY
    assert len(careful.loads) == 1
    assert docker.client.images.list(APP)


def test_without_publishers_the_fragment_is_all_that_a_forger_needs(
    watched: WatchedDevice, docker: Engine, evil: Made
) -> None:
    """What PUBLISHER_KEYS is for."""
    assert watched.unlock(evil.signed(EVE)) == READY
    assert docker.client.images.list(APP)
