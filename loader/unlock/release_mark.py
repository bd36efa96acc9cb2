"""The release mark: which release is the newest that became ready here, so that nobody goes back by accident.

It has a file of its own, because the remembered unlock is another release after a way back on purpose. Nothing protects
it from those who may write to its directory, and who could remove it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from loader.crypto.archive_head import Release, StoredHead
from loader.crypto.json_header import exactly, is_text, require
from loader.errors import CorruptCiphertext, Rollback
from loader.files import LOST, NotRegular, read_small, remove_unfinished, storage, write_durable
from loader.unlock.remembered import ProvenRelease, Remembered

log = logging.getLogger(__name__)

MARK_NAME = "release-mark.json"
MARK_LIMIT = 4096
MINIMUM_HINT = (
    "Copy a release that the resource API permits to the device; its publishers have withdrawn the older ones."
)

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class KnownRelease(Release):
    """A release with the digest of its head, which names exactly this one."""

    head: str

    @classmethod
    def of(cls, stored: StoredHead) -> KnownRelease:
        """Return the release of a head."""
        return cls(**asdict(stored.head.release), head=stored.digest)

    @property
    def text(self) -> str:
        """The release for a person: version, serial and date."""
        return f"release {self.version} (serial {self.serial}, made {self.created})"

    def is_older_than(self, newest: KnownRelease) -> bool:
        """Return whether this is a step back from `newest`. Of two heads with one serial only the first is accepted."""
        return self.serial < newest.serial or (self.serial == newest.serial and self.head != newest.head)


@dataclass(frozen=True)
class ReleaseMark:
    """`newest` has the greatest serial of all that became ready and were proven here, None if there was none.

    `permitted` is the digest of the head of an older release that became ready after it, because a person permitted it;
    None if the newest itself was the last. `last` is the digest of the head of the last unlock that was proven, which
    the file does not have. `is_stored` says whether the file has the rest.
    """

    newest: KnownRelease | None = None
    permitted: str | None = None
    last: str | None = field(default=None, compare=False)
    is_stored: bool = field(default=False, compare=False)

    @classmethod
    def read(cls, directory: Path, remembered: Remembered | None = None) -> ReleaseMark:
        """Return the mark in `directory`. The present and the previous release count if their serials are greater.

        So they do if the file is absent or, with a warning in the log, damaged: to refuse every release then would stop
        a device in the field, and nobody who could also remove the file. Raises StorageError if it cannot be read now.

        `remembered` is what `directory` remembers, for a caller that has read it already.
        """
        if remembered is None:
            remembered = Remembered.read_if_sound(directory)
        mark = _read(directory / MARK_NAME)
        heads = [each for each in (remembered.present, remembered.previous) if each is not None]
        for known in map(_known, heads):
            mark = cls(known) if mark.newest is None or known.serial > mark.newest.serial else mark
        return replace(mark, last=remembered.present.digest) if remembered.present is not None else mark

    def newer_than(self, release: KnownRelease) -> KnownRelease | None:
        """Return the newest release if `release` is an older one that nobody has permitted, else None.

        The last unlock was permitted, because it would have been refused otherwise.
        """
        if self.newest is None or release.head in (self.permitted, self.last):
            return None
        return self.newest if release.is_older_than(self.newest) else None

    def require_not_older(self, release: KnownRelease, allowed: str | None) -> None:
        """Raise Rollback unless `release` is the newest, or permitted before, or its head has the digest `allowed`."""
        newest = self.newer_than(release)
        if newest is None:
            return
        if release.head != allowed:
            raise Rollback(rollback_text(release, newest))
        log.warning("%s is permitted, though %s became ready on this device", release.text, newest.text)

    def after(self, release: KnownRelease, *, proven: bool) -> ReleaseMark:
        """Return the mark after `release` became ready; only one that is `proven` can become the newest."""
        if self.newest is not None and release.is_older_than(self.newest):
            return replace(self, permitted=release.head, is_stored=self.is_stored and release.head == self.permitted)
        return self if not proven or self == ReleaseMark(release) else ReleaseMark(release)

    def to_bytes(self) -> bytes:
        """Return what `parse` reads."""
        newest = asdict(self.newest) if self.newest is not None else None
        body = json.dumps({"newest": newest, "permitted": self.permitted})
        return json.dumps({"mark": body, "sha256": hashlib.sha256(body.encode()).hexdigest()}).encode()

    @classmethod
    def parse(cls, data: bytes) -> ReleaseMark:
        """Return the mark in `data`. Raises CorruptCiphertext, and ValueError or RecursionError for no JSON."""
        outer = json.loads(data)
        require(isinstance(outer, dict), "mark")
        body, sha256 = exactly(outer, "mark", "sha256")
        require(isinstance(body, str) and hashlib.sha256(body.encode()).hexdigest() == sha256, "sha256")
        document = json.loads(body)
        require(isinstance(document, dict), "mark")
        newest, permitted = exactly(document, "newest", "permitted")
        require(isinstance(newest, dict), "newest")
        head = newest.pop("head", None)
        require(is_text(head, _DIGEST), "head")
        require(permitted is None or is_text(permitted, _DIGEST), "permitted")
        return cls(KnownRelease(**asdict(Release.parse(newest)), head=head), permitted, is_stored=True)


def rollback_text(release: KnownRelease, newest: KnownRelease) -> str:
    """Return the sentence of ROLLBACK, which names both releases."""
    relation = "older than" if release.serial < newest.serial else "not the same as"
    return f"The archive is {release.text}, {relation} {newest.text}, which became ready on this device."


def require_minimum(release: Release, minimum: int) -> None:
    """Raise Rollback if the serial of `release` is below the `minimum` that the resource API states."""
    if release.serial < minimum:
        raise Rollback(
            f"The archive is release {release.version} (serial {release.serial}, made {release.created}), but the "
            f"resource API permits no serial below {minimum}.",
            hint=MINIMUM_HINT,
        )


def note_ready(directory: Path, mark: ReleaseMark, release: KnownRelease, *, proven: bool) -> None:
    """Write the mark after `release` became ready, so that it survives a power cut.

    Never raises, because a failure must not undo an unlock.
    """
    after = mark.after(release, proven=proven)
    if after.newest is None or after.is_stored:
        return
    path = directory / MARK_NAME
    try:
        write_durable(path, after.to_bytes())
    except OSError as exc:
        log.warning("the newest release could not be noted at %s: %s", path, exc.strerror)


def _read(path: Path) -> ReleaseMark:
    """Return the mark of the file, an empty one if it is absent or damaged. Raises StorageError."""
    try:
        return ReleaseMark.parse(read_small(path, MARK_LIMIT))
    except FileNotFoundError:
        return ReleaseMark()
    except (CorruptCiphertext, ValueError, RecursionError) as exc:
        reason: object = exc
    except OSError as exc:
        if not isinstance(exc, NotRegular) and exc.errno not in (errno.EFBIG, *LOST):
            with storage(path, 0):
                raise
        reason = exc.strerror
    log.warning("the release mark %s cannot be used, so that only the last unlock counts: %s", path, reason)
    return ReleaseMark()


def remove_unfinished_mark(directory: Path) -> None:
    """Remove what a process left that was killed while it wrote the mark. Never raises."""
    remove_unfinished(directory / MARK_NAME)


def _known(release: ProvenRelease) -> KnownRelease:
    return KnownRelease(**asdict(release.head.release), head=release.digest)
