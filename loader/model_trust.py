"""Which models a device accepts where PUBLISHER_KEYS is set: signed ones, and none older than one accepted before.

Also the key with which a device signs what it uploads (SIGNING_KEY).
"""

from __future__ import annotations

import threading
from pathlib import Path

from loader.accepted_models import AcceptedModels, Mark
from loader.crypto.model_parts import ResourceName, SmallPart
from loader.crypto.signatures import SigningKey, find_signers
from loader.crypto.signing_key_file import BadSigningKey, parse_signing_key
from loader.errors import Rollback, UntrustedPublisher
from loader.publisher_keys import PublisherKeys
from loader.settings import BadSettings, Settings

UNSIGNED_HINT = (
    "Upload the model again from a loader whose SIGNING_KEY is trusted here; if the publisher is new, add the key to "
    "PUBLISHER_KEYS."
)
OLDER_HINT = "Upload the edition that is wanted again: an upload is always newer than what the resource API has."
# How many small parts are remembered as verified, so that loading them again costs no verification: 4 MiB of memory.
MAX_VERIFIED = 64


def signing_key(settings: Settings) -> SigningKey | None:
    """Return the key that signs uploads, None if SIGNING_KEY is not set. Raises BadSettings."""
    try:
        return parse_signing_key(settings.signing_key) if settings.signing_key is not None else None
    except BadSigningKey as exc:
        raise BadSettings(f"bad configuration: the file that SIGNING_KEY names {exc}") from exc


class ModelTrust:
    """The rules for one device. Threads may share it."""

    def __init__(self, trusted: PublisherKeys, directory: Path) -> None:
        """Remember the accepted editions in `directory`."""
        self._trusted = trusted
        self._accepted = AcceptedModels(directory)
        self._lock = threading.Lock()
        # What was verified last under each name. Never read from the disk, because others may write there.
        self._verified: dict[str, tuple[SmallPart, Mark]] = {}

    def require(self, name: ResourceName, small: SmallPart) -> None:
        """Return if a model may be loaded.

        Raises UntrustedPublisher unless the owner of a trusted key has signed this edition under this name, and
        Rollback if a newer one was accepted before, or another one of the same serial.
        """
        mark = self._verified_mark(name, small)
        newest = self._accepted.find(name.path)
        if newest is not None and (mark.is_before(newest) or (mark.serial == newest.serial and mark != newest)):
            raise Rollback(
                f"The resource API has {name.path} with {small.edition}, but serial {newest.serial} of "
                f"{newest.created}{'' if mark.is_before(newest) else ' with other content'} was accepted here before.",
                hint=OLDER_HINT,
            )

    def accept(self, name: ResourceName, small: SmallPart) -> None:
        """Remember an edition whose plaintext is about to be released."""
        newest = self._accepted.find(name.path)
        if newest is None or newest.serial < small.edition.serial:
            self._accepted.accept(name.path, _mark(name, small))

    def _verified_mark(self, name: ResourceName, small: SmallPart) -> Mark:
        with self._lock:
            known, mark = self._verified.get(name.path, (None, None))
        # Comparing the bytes is much faster than hashing them.
        if known == small and mark is not None:
            return mark
        if not any(find_signers(small.named(name), small.signatures, self._trusted)):
            raise UntrustedPublisher(
                f"The model {name.path} has no valid signature by a key in PUBLISHER_KEYS.", hint=UNSIGNED_HINT
            )
        mark = _mark(name, small)
        with self._lock:
            self._verified.pop(name.path, None)
            self._verified[name.path] = (small, mark)
            while len(self._verified) > MAX_VERIFIED:
                del self._verified[next(iter(self._verified))]
        return mark


def _mark(name: ResourceName, small: SmallPart) -> Mark:
    return Mark(small.edition.serial, small.edition.created, small.named(name).digest)
