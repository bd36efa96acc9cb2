"""What each attacker can make of the archives that everybody can copy, with what that attacker has."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from loader.crypto.archive import ArchiveIndex, archive_start
from loader.crypto.archive_seals import Seals
from loader.crypto.json_header import Signature
from loader.crypto.signatures import SigningKey
from tests.support.archive_parts import Parts
from tests.support.archives import APP
from tests.support.handmade_image import FRAGMENT, ROOT, HandmadeImage, HandmadeLayer, seal
from tests.support.publishers import ANNA, EVE
from tests.support.thin_archives import index_of

OWN_FRAGMENT = b"a key fragment that a forger made"
# Whether an attacker has the key fragment. An API that is hostile hands out the fragments.
PARTIES = {"hostile API": True, "CDN": False, "operator with an account": True, "local user": False}


@dataclass(frozen=True)
class Made:
    """An archive as its makers have it, before it is signed."""

    index: ArchiveIndex
    blobs: bytes

    def with_seals(self, *signatures: Signature, fragment: bytes = FRAGMENT, check: str | None = None) -> bytes:
        """Return the archive with these signatures and seals under `fragment`, which may claim to be another one."""
        seals = dataclasses.replace(Seals.make(self.index.stored, ROOT, fragment), signatures=signatures)
        seals = dataclasses.replace(seals, check=check or seals.check)
        return archive_start(self.index.stored, seals, self.index.head.blobs) + self.blobs

    def signed(self, *keys: SigningKey, fragment: bytes = FRAGMENT) -> bytes:
        """Return the archive with the signatures of these keys."""
        return self.with_seals(*(key.sign(self.index.stored) for key in keys), fragment=fragment)


def made(path: Path, content: bytes, serial: int) -> Made:
    """Return a release of version 1.4 whose image has this content."""
    index = index_of(seal(path, [HandmadeImage(APP, (HandmadeLayer(content),))], serial=serial))
    return Made(index, path.read_bytes()[min(index.offsets.values()) :])


@dataclass(frozen=True)
class Releases:
    """The newest release, one before it, which publishers have signed, and what an attacker wants the fleet to run.

    All have the same sizes, so that their parts can be exchanged.
    """

    new: Made
    old: Made
    evil: Made

    @classmethod
    def make(cls, directory: Path) -> Releases:
        """Make all three, with files in `directory`."""
        contents = ((b"published", 7), (b"outdated!", 6), (b"malicious", 8))
        return cls(*(made(directory / f"{serial}.enc", text * 500, serial) for text, serial in contents))


def forged(releases: Releases, has_fragment: bool) -> Iterator[bytes]:
    """Yield archives of the attacker's own images, with every signature that the attacker can make or copy."""
    new, evil = releases.new.index.stored, releases.evil.index.stored
    copied, own = ANNA.sign(new), EVE.sign(evil)
    named = Signature(ANNA.public, own.signature)
    check = None if has_fragment else releases.new.index.seals.check
    for signatures in ((), (own,), (copied,), (named, own)):
        yield releases.evil.with_seals(*signatures, fragment=FRAGMENT if has_fragment else OWN_FRAGMENT, check=check)
    if not has_fragment:
        yield releases.evil.signed(EVE, fragment=OWN_FRAGMENT)


def replayed(releases: Releases, _has_fragment: bool) -> Iterator[bytes]:
    """Yield the release before, as it was published."""
    yield releases.old.signed(ANNA)


def mixed(releases: Releases, has_fragment: bool) -> Iterator[bytes]:
    """Yield each head with the seals of another release, the blobs of another, or both."""
    fragment = FRAGMENT if has_fragment else OWN_FRAGMENT
    published = (releases.new.signed(ANNA), releases.old.signed(ANNA))
    parts = [Parts.of(archive) for archive in (*published, releases.evil.signed(EVE, fragment=fragment))]
    for head, seals, blobs in itertools.product(parts, repeat=3):
        if not head is seals is blobs:
            yield dataclasses.replace(head, seals=seals.seals, blobs=blobs.blobs).joined()
    if has_fragment:
        for first, other in itertools.permutations((releases.new, releases.old, releases.evil), 2):
            yield Made(first.index, other.blobs).with_seals(ANNA.sign(releases.new.index.stored))


def truncated(releases: Releases, _has_fragment: bool) -> Iterator[bytes]:
    """Yield the newest release without its end, also where the list of its blobs says so."""
    archive = releases.new.signed(ANNA)
    parts = Parts.of(archive)
    cuts = [position for position in parts.boundaries() if position < len(archive)]
    for size in (*cuts[::3], len(archive) // 2, len(archive) - 1):
        yield archive[:size]
    for count in range(len(parts.blobs)):
        yield dataclasses.replace(parts, present=parts.present[:count], blobs=parts.blobs[:count]).joined()


ACTS: dict[str, Callable[[Releases, bool], Iterator[bytes]]] = {
    "forged": forged,
    "replayed": replayed,
    "mixed": mixed,
    "truncated": truncated,
}
