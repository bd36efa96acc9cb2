"""An upload of a model: encrypted while it arrives, sent while it is encrypted, and published at its end."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from loader.api_client import get_api_client
from loader.crypto.json_header import INTEGER_LIMIT
from loader.crypto.model_parts import HEAD_SIZE, Edition, ResourceName, SealedModel, SmallPart, new_object, seal_model
from loader.crypto.sealed_spool import SealedSpool
from loader.crypto.segments import ciphertext_size
from loader.crypto.signatures import SigningKey
from loader.errors import Checkpoint, CorruptCiphertext, ResourceNotFound
from loader.files import storage
from loader.model_cache.cache import ModelCache
from loader.patience import persist
from loader.uploads.body import FilePieces
from loader.uploads.sender import PartSender

log = logging.getLogger(__name__)

T = TypeVar("T")

# A smaller big part is sent by one PUT, which costs as much after a cut as one part, and three requests less.
WHOLE_MAX_SIZE = 8 << 20


class UploadForm(Protocol):
    """An upload form, whose parts are read once and in the order in which they come. `length` is its size in bytes."""

    @property
    def length(self) -> int: ...

    def folder_if_first(self) -> str | None:
        """Read up to the file. Return the folder if it came before the file, otherwise None."""

    def file_size(self) -> int | None:
        """Return the size of the file as it seems, in bytes; None if there is no telling. The caller compares."""

    def file_pieces(self) -> Iterator[bytes]:
        """Yield the content of the file."""

    def folder_at_end(self) -> str:
        """Read what follows the file, to the end of the form. Return the folder."""


@dataclass(frozen=True)
class _BigObject:
    """The big object of one upload: its file, and what sends it; None if it is sent at the end, as a whole."""

    file: BinaryIO
    sender: PartSender | None

    def write(self, piece: memoryview) -> None:
        """Append to the file, and let the sender have it."""
        self.file.write(piece)
        self.file.flush()
        if self.sender is not None:
            self.sender.written(len(piece))


class ModelUploads:
    """Stores models at the API. Writes ciphertext, and nothing else, to `work_dir`."""

    def __init__(self, work_dir: Path, cache: ModelCache, patience: float, signing_key: SigningKey | None) -> None:
        """What the API interrupts is tried again for `patience` seconds. `signing_key` signs uploads."""
        self._work_dir = work_dir
        self._cache = cache
        self._patience = patience
        self._signing_key = signing_key

    def store(self, filename: str, form: UploadForm, wanted: Checkpoint = lambda: None) -> tuple[ResourceName, int]:
        """Encrypt the file of `form` while it arrives, split it and upload both parts. Return its name and its size.

        The big part is sent while it is encrypted if the API takes uploads in parts, otherwise once the whole form has
        been read. It stays in the cache. Raises NotLoggedIn, DiskSpace, StorageError, ApiFault and what `form` raises.
        Before each request it raises what `wanted` raises.
        """
        logged_in = get_api_client().checkpoint()

        def checkpoint() -> None:
            logged_in()
            wanted()

        with self._cache.upload(form.length) as file, ExitStack() as sending:

            def begin(name: ResourceName, object_name: str, size: int) -> _BigObject:
                return sending.enter_context(self._sending(name.big_object(object_name), size, file, checkpoint))

            with storage(self._work_dir, form.length):
                name, sealed, big = self._seal(filename, form, begin, checkpoint)
            with self._cache.adopting(file, sealed.big) if sealed.big is not None else nullcontext():
                self._publish(name, sealed, big, checkpoint)
        return name, sealed.size

    @contextmanager
    def _sending(self, path: str, size: int, file: BinaryIO, checkpoint: Checkpoint) -> Iterator[_BigObject]:
        """Yield the big object of a model that seems to have `size` bytes. It is not stored unless it was published."""
        size = ciphertext_size(size) - HEAD_SIZE
        if size <= WHOLE_MAX_SIZE:
            yield _BigObject(file, None)
            return
        api = get_api_client().uploads()
        with PartSender(api, path, size, (file, self._work_dir), self._patience, checkpoint) as sender:
            yield _BigObject(file, sender)

    def _seal(
        self,
        filename: str,
        form: UploadForm,
        begin: Callable[[ResourceName, str, int], _BigObject],
        checkpoint: Checkpoint,
    ) -> tuple[ResourceName, SealedModel, _BigObject]:
        folder = form.folder_if_first()
        pieces, object_name = _check_each_piece(form.file_pieces(), checkpoint), new_object()
        if folder is not None:
            name = ResourceName(folder, filename)
            # A wrong size costs only that the big part is sent at the end, as a whole.
            big = begin(name, object_name, form.file_size() or 0)
            sealed = seal_model(pieces, name, big, object_name)
            form.folder_at_end()
            return name, sealed, big
        # Spool the file until its folder is known, because the folder is associated data of the ciphertext. The spool
        # has no name, because nothing of it must stay after `kill -9`.
        with tempfile.TemporaryFile(dir=self._work_dir) as file:
            spool = SealedSpool(file)
            region = spool.add(pieces)
            name = ResourceName(form.folder_at_end(), filename)
            self._cache.free_disk_space(region.size)
            big = begin(name, object_name, region.size)
            return name, seal_model(spool.read(region), name, big, object_name), big

    def _publish(self, name: ResourceName, sealed: SealedModel, big: _BigObject, checkpoint: Checkpoint) -> None:
        """Upload the big part first, because a small part must never name a big one that is not there."""
        if sealed.big is not None and not (big.sender is not None and big.sender.finish()):
            self._put(name.big(sealed.big), FilePieces(big.file, self._work_dir, checkpoint), checkpoint)
        present = self._patiently(name.small, checkpoint, lambda: _present_serial(name))
        small = sealed.described(_next_edition(present))
        if self._signing_key is not None:
            small = replace(small, signatures=(self._signing_key.sign(small.named(name)),))
        self._put(name.small, small.to_bytes(), checkpoint)

    def _put(self, path: str, body: FilePieces | bytes, checkpoint: Checkpoint) -> None:
        """Send `body` until the API has it; both parts are sealed and on the disk, so a failure costs only time."""
        self._patiently(path, checkpoint, lambda: get_api_client().put_object(path, body))

    def _patiently(self, path: str, checkpoint: Checkpoint, request: Callable[[], T]) -> T:
        return persist(request, self._patience, f"the upload of {path}", checkpoint)


def _present_serial(name: ResourceName) -> int:
    """Return the serial of the edition that the API has, 0 if it has none that can be read."""
    try:
        return SmallPart.from_bytes(get_api_client().small_object(name.small)).edition.serial
    except ResourceNotFound as exc:
        log.info("the upload of %s replaces no edition: %s", name.path, exc)
    except CorruptCiphertext as exc:
        log.info("the upload of %s replaces a damaged edition: %s", name.path, exc)
    return 0


def _next_edition(present: int) -> Edition:
    """Return the edition of an upload that replaces one with the serial `present`.

    Its serial is the time in milliseconds, because any machine may upload, or one more where a clock is behind.
    """
    now = datetime.now(UTC)
    serial = max(int(now.timestamp() * 1000), present + 1)
    # A serial that nothing can follow was made to block the name; only replacing it undoes that.
    serial = serial if serial < INTEGER_LIMIT else int(now.timestamp() * 1000)
    return Edition(serial, now.isoformat(timespec="seconds").replace("+00:00", "Z"))


def _check_each_piece(pieces: Iterator[bytes], checkpoint: Checkpoint) -> Iterator[bytes]:
    for piece in pieces:
        checkpoint()
        yield piece
