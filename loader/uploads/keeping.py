"""The uploads that are kept for clients that come back: one for each model, and few of them without a client."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from loader.api_client import get_api_client
from loader.crypto.model_parts import ResourceName
from loader.errors import UploadMismatch
from loader.uploads.kept import KeptUpload, Store, Turn
from loader.uploads.model import UploadForm

# Each occupies a file in the cache, and some MiB of memory.
MAX_LEFT = 4


@dataclass(frozen=True)
class Place:
    """Where a client goes on: how many bytes of the file have arrived, and whether the whole model is stored."""

    offset: int
    complete: bool


class KeptUploads:
    """The uploads of the user who is logged in. Threads may share it. Every method raises NotLoggedIn if nobody is."""

    def __init__(self, store: Store) -> None:
        """`store` is called for each upload in a thread of its own."""
        self._store = store
        self._uploads: dict[ResourceName, KeptUpload] = {}
        # All whose threads run, also those that were replaced or dropped, in the order in which they began.
        self._running: list[tuple[ResourceName, KeptUpload]] = []
        self._lock = threading.Lock()

    def place(self, name: ResourceName) -> Place:
        """Return where the client of an upload goes on, after ending the connection that it had before."""
        upload = self._find(name)
        if upload is None:
            return Place(0, complete=False)
        upload.end_turn()
        return Place(upload.offset, upload.complete)

    def begin(self, name: ResourceName, form: UploadForm) -> Turn:
        """Begin an upload, in the place of one that is kept. The folder of `form` was read."""
        upload = KeptUpload(name, form)
        turn = upload.take_turn()
        with self._lock:
            former = self._uploads.get(name)
            self._running = [each for each in self._running if not each[1].done]
            upload.start(self._store, [earlier for other, earlier in self._running if other == name])
            self._running.append((name, upload))
            self._uploads[name] = upload
        if former is not None:
            former.drop()
        self._drop_some()
        return turn

    def resume(self, name: ResourceName, offset: int, digest: str) -> Turn:
        """Go on after `offset` bytes, whose SHA-256 is `digest`, in hex.

        Raises UploadMismatch unless the upload that is kept has just these bytes.
        """
        upload = self._find(name)
        if upload is None:
            raise UploadMismatch(f"The loader has no upload of {name.path} that goes on.")
        return upload.resume(offset, digest)

    def _find(self, name: ResourceName) -> KeptUpload | None:
        get_api_client().checkpoint()
        self._drop_some()
        with self._lock:
            return self._uploads.get(name)

    def _drop_some(self) -> None:
        """Drop uploads that have ended, and some of too many without a client.

        First go those that are complete, then those that need their client, in the order in which they were left.
        """
        with self._lock:
            self._uploads = {name: upload for name, upload in self._uploads.items() if not upload.ended}
            left = [
                (not upload.complete, upload.goes_alone, at, name)
                for name, upload in self._uploads.items()
                if (at := upload.left)
            ]
            left.sort(key=lambda each: each[:3])
            for *_, name in left[: max(0, len(left) - MAX_LEFT)]:
                self._uploads.pop(name).drop()
