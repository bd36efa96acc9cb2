"""The data directory, its layout, and access to its small files.

DIR has the state, which one host writes and others may have read-only. STORAGE has the objects, which all write.
STORAGE is DIR unless another directory is given.

DIR/users.json         0600  e-mail -> hash of the password, role, whether disabled
DIR/token-secret       0600  signs the tokens; replacing it makes all tokens invalid
DIR/key-fragments.json 0600  the key fragments; absent until `key new`, `key set` or `key add`
DIR/minimum-serial     0600  the smallest serial of a release that devices may unlock; absent until `key minimum`
DIR/tmp/               0700  unfinished small files; what killed processes left goes with the next change
STORAGE/resources/     0700  the objects, in their folders
STORAGE/uploads/       0700  resumable uploads that are not expired; on the same file system, too
STORAGE/tmp/           0700  unfinished files; on the same file system as resources/; emptied at each start
"""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from resource_api.atomic import remove_leftovers, replacing

TOKEN_SECRET_BYTES = 32
_NOT_WRITABLE = (errno.EROFS, errno.EACCES)


class DataDirectoryError(Exception):
    """The data directory cannot be used as requested. The text is one line for the operator."""


class DataDirectory:
    """The paths in a data directory and in its storage, and access to the small files."""

    def __init__(self, root: Path, storage: Path | None = None) -> None:
        """Use `root` and `storage` without checks; call `create` or `open` to get a checked directory."""
        self.root = root.absolute()
        self.storage = (storage or root).absolute()
        self.users_file = self.root / "users.json"
        self.token_secret_file = self.root / "token-secret"
        self.key_fragments_file = self.root / "key-fragments.json"
        self.minimum_serial_file = self.root / "minimum-serial"
        self.resources = self.storage / "resources"
        self.uploads = self.storage / "uploads"
        self.temporary = self.storage / "tmp"
        self._unfinished = self.root / "tmp"

    @classmethod
    def create(cls, root: Path, storage: Path | None = None) -> Self:
        """Create both directories and the missing files; existing ones stay. Raises DataDirectoryError and OSError."""
        data = cls(root, storage)
        data.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not data.users_file.exists() and any(data.root.iterdir()):
            raise DataDirectoryError(f"{data.root} is not empty and is not a data directory")
        data.storage.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not data.resources.exists() and data.storage != data.root and any(data.storage.iterdir()):
            raise DataDirectoryError(f"{data.storage} is not empty and is not a directory of objects")
        for folder in (data.resources, data.uploads, data.temporary, data._unfinished):
            folder.mkdir(mode=0o700, exist_ok=True)
        if not data.token_secret_file.exists():
            data.write_private(data.token_secret_file, secrets.token_bytes(TOKEN_SECRET_BYTES))
        if not data.users_file.exists():
            data.write_private(data.users_file, b"{}\n")
        return data

    @classmethod
    def open(cls, root: Path, storage: Path | None = None) -> Self:
        """Return the directories that `create` made, of which only the state is checked. Raises DataDirectoryError."""
        data = cls(root, storage)
        try:
            data.users_file.read_bytes()
            data.token_secret()
        except OSError as error:
            raise DataDirectoryError(f"not a usable data directory: {error.filename}: {error.strerror}") from error
        return data

    def require_storage(self) -> None:
        """Raise DataDirectoryError unless objects can be written to the storage."""
        folders = [self.resources, self.temporary, *([self.uploads] if self.uploads.exists() else [])]
        try:
            same_file_system = len({folder.stat().st_dev for folder in folders}) == 1
        except OSError as error:
            raise DataDirectoryError(
                f"not a usable directory of objects: {error.filename}: {error.strerror}; `init --storage` makes one"
            ) from error
        if not same_file_system:
            raise DataDirectoryError(f"{', '.join(map(str, folders))} must be on one file system")
        if not os.access(self.temporary, os.W_OK):
            raise DataDirectoryError(
                f"{self.temporary} cannot be written; with a read-only data directory, --storage names another one "
                "for the objects"
            )

    def token_secret(self) -> bytes:
        """Return the secret that signs tokens. Raises OSError, and DataDirectoryError if it is too short."""
        secret = self.token_secret_file.read_bytes()
        if len(secret) < TOKEN_SECRET_BYTES:
            raise DataDirectoryError(f"{self.token_secret_file} holds fewer than {TOKEN_SECRET_BYTES} bytes")
        return secret

    def write_private(self, path: Path, content: bytes) -> None:
        """Replace the small file `path` with `content`; the new file has mode 0600. Remove what killed processes left.

        Raises OSError, and DataDirectoryError if the directory is read-only on this host.
        """
        try:
            # Here, because a server may have the directory read-only, and then empties only that of its objects.
            remove_leftovers(self._unfinished)
            with replacing(path, self._unfinished) as file:
                file.write(content)
        except OSError as error:
            if error.errno not in _NOT_WRITABLE:
                raise
            raise DataDirectoryError(
                f"{self.root} cannot be changed here: {error.strerror}; run this command on the host that writes it"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the directory during the block, so that only one process at a time reads and rewrites a small file."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
