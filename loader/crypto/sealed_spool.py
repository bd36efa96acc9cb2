"""Plaintext that has to wait for something (its folder, its size) waits on disk in sealed form only."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from Crypto.Random import get_random_bytes

from loader.crypto.key_derivation import KEY_MATERIAL_MIN_SIZE
from loader.crypto.streaming_aead import Buffer, DecryptingReader, encrypt, plaintext_size


class SealedSpool:
    """A nameless temporary file in `directory`, encrypted under a key that exists in this object only.

    Without a name nothing is left behind, even after `kill -9`. `size` is that of the plaintext in bytes.
    """

    def __init__(self, directory: Path, plaintext: Iterable[Buffer]) -> None:
        self._key = get_random_bytes(KEY_MATERIAL_MIN_SIZE)
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115  # closed by close()
        try:
            for piece in encrypt(plaintext, self._key, b""):
                self._file.write(piece)
            self._sealed_size = self._file.tell()
        except BaseException:
            self._file.close()
            raise
        self.size = plaintext_size(self._sealed_size)

    def read(self) -> DecryptingReader:
        """The plaintext from its begin. One reader at a time: they share the file's position."""
        self._file.seek(0)
        return DecryptingReader(self._file, self._sealed_size, self._key, b"")

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def __enter__(self) -> SealedSpool:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
