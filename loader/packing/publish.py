"""`images publish`: the resource API gets the blobs of a release that it lacks, and then the head that names them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from loader.api_client import get_api_client
from loader.binary_split import Archive, Stage
from loader.crypto.archive import archive_start
from loader.crypto.archive_head import Blob, Head
from loader.errors import ArchiveIncomplete, ResourceCorrupt, ResourceNotFound, ValidationFailed
from loader.files import OnBytes
from loader.packing.publish_parts import send_in_parts
from loader.patience import persist
from loader.published import blob_path, head_path, published_head, published_objects

# A smaller blob is sent by one PUT, which takes fewer requests.
WHOLE_MAX_SIZE = 8 << 20


@dataclass(frozen=True)
class Publication:
    """What `publish` has sent: of the head's blobs those that the API lacked."""

    head: Head
    sent: tuple[Blob, ...]


def publish(archive: Archive, names: list[str], stage: Stage, patience: float) -> Publication:
    """Send the release in `archive` to the API, with a head for each of `names`, after its blobs.

    After any interruption a second call sends only the rest, in whole blobs. A device never finds a head whose blobs
    are not there. Work that the API interrupts is tried again for `patience` seconds.

    Raises ValidationFailed if the API has a release with the same or a higher serial under one of the names,
    ArchiveIncomplete if neither the archive nor the API has a blob, ArchiveCorrupt, StorageError, Forbidden, and
    what else the client of the API raises.
    """
    for name in names:
        _require_newer(archive, name)
    missing = _missing(archive, published_objects())
    with stage("publishing", sum(blob.stored_size for blob in missing)) as advance:
        for blob in missing:
            body = _CheckedBlob(archive, blob, advance)
            is_large = blob.stored_size > WHOLE_MAX_SIZE
            if not (is_large and send_in_parts(blob_path(blob), body, patience)):
                _send(blob_path(blob), body, patience)
    start = archive_start(archive.index.stored, archive.index.seals, ())
    for name in names:
        _send(head_path(name), start, patience)
    return Publication(archive.head, tuple(missing))


def _require_newer(archive: Archive, name: str) -> None:
    """Raise ValidationFailed if devices that have the published head under this name would refuse this one.

    A damaged head is of no use to any device, so it may be replaced.
    """
    with suppress(ResourceNotFound, ResourceCorrupt):
        there, here = published_head(name).stored, archive.index.stored
        old, new = there.head.release, here.head.release
        if there.raw != here.raw and new.serial <= old.serial:
            raise ValidationFailed(
                f"The resource API has release {old.version} with serial {old.serial}, made {old.created}, as {name}. "
                f"The serial {new.serial} of release {new.version} is not higher, so devices would refuse it."
            )


def _missing(archive: Archive, objects: Mapping[str, int]) -> list[Blob]:
    """Return the blobs that the API lacks. Raises ArchiveIncomplete if the archive lacks one of them too."""
    missing = [blob for blob in archive.head.blobs if objects.get(blob_path(blob)) != blob.stored_size]
    absent = set(archive.absent)
    if lacking := [blob for blob in missing if blob in absent]:
        size = sum(blob.stored_size for blob in lacking)
        raise ArchiveIncomplete(
            f"Neither {archive.path} nor the resource API has {len(lacking)} blobs of {size} bytes."
        )
    return missing


class _CheckedBlob:
    """The stored bytes of a blob as the body of a request.

    The last piece is sent only once all of them were compared with the digest, so the API never stores other bytes.
    """

    def __init__(self, archive: Archive, blob: Blob, on_sent: OnBytes) -> None:
        self._archive = archive
        self._blob = blob
        self._on_sent = on_sent
        self._counted = 0

    def __len__(self) -> int:
        return self._blob.stored_size

    def __iter__(self) -> Iterator[bytes]:
        sent, held = 0, b""
        for piece in self._archive.pieces(self._blob):
            if held:
                yield held
                sent += len(held)
                self._count(sent)
            held = bytes(piece)
        yield held
        self._count(sent + len(held))

    def _count(self, sent: int) -> None:
        """Tell of bytes that were sent for the first time, because an attempt that failed was counted already."""
        if sent > self._counted:
            self._on_sent(sent - self._counted)
            self._counted = sent


def _send(path: str, body: _CheckedBlob | bytes, patience: float) -> None:
    api = get_api_client()
    persist(lambda: api.put_object(path, body), patience, f"the upload of {path}", api.checkpoint())
