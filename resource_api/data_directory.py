"""The data directory, its layout, and access to its small files.

DIR/users.json         0600  e-mail -> hash of the password, role, whether disabled
DIR/token-secret       0600  signs the tokens; replacing it makes all tokens invalid
DIR/key-fragments.json 0600  the key fragments; absent until `key new`, `key set` or `key add`
DIR/minimum-serial     0600  the smallest serial of a release that devices may unlock; absent until `key minimum`
DIR/resources/         0700  the objects, in their folders
DIR/uploads/           0700  resumable uploads that are not expired; on the same file system, too
DIR/tmp/               0700  unfinished files; on the same file system as resources/
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from resource_api.atomic import replacing

TOKEN_SECRET_BYTES = 32


class DataDirectoryError(Exception):
    """The data directory cannot be used as requested. The text is one line for the operator."""


class DataDirectory:
    """The paths in a data directory, and access to its small files."""

    def __init__(self, root: Path) -> None:
        """Use `root` without checks; call `create` or `open` to get a checked directory."""
        self.root = root.absolute()
        self.users_file = self.root / "users.json"
        self.token_secret_file = self.root / "token-secret"
        self.key_fragments_file = self.root / "key-fragments.json"
        self.minimum_serial_file = self.root / "minimum-serial"
        self.resources = self.root / "resources"
        self.uploads = self.root / "uploads"
        self.temporary = self.root / "tmp"

    @classmethod
    def create(cls, root: Path) -> Self:
        """Create the directory and its missing files; existing files stay. Raises DataDirectoryError and OSError."""
        data = cls(root)
        data.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not data.users_file.exists() and any(data.root.iterdir()):
            raise DataDirectoryError(f"{data.root} is not empty and is not a data directory")
        data.resources.mkdir(mode=0o700, exist_ok=True)
        data.uploads.mkdir(mode=0o700, exist_ok=True)
        data.temporary.mkdir(mode=0o700, exist_ok=True)
        if not data.token_secret_file.exists():
            data.write_private(data.token_secret_file, secrets.token_bytes(TOKEN_SECRET_BYTES))
        if not data.users_file.exists():
            data.write_private(data.users_file, b"{}\n")
        return data

    @classmethod
    def open(cls, root: Path) -> Self:
        """Return the directory that `create` made at `root`. Raises DataDirectoryError if it cannot be used."""
        data = cls(root)
        try:
            data.users_file.read_bytes()
            data.token_secret()
            folders = [data.resources, data.temporary, *([data.uploads] if data.uploads.exists() else [])]
            same_file_system = len({folder.stat().st_dev for folder in folders}) == 1
        except OSError as error:
            raise DataDirectoryError(f"not a usable data directory: {error.filename}: {error.strerror}") from error
        if not same_file_system:
            raise DataDirectoryError(f"{', '.join(map(str, folders))} must be on one file system")
        return data

    def token_secret(self) -> bytes:
        """Return the secret that signs tokens. Raises OSError, and DataDirectoryError if it is too short."""
        secret = self.token_secret_file.read_bytes()
        if len(secret) < TOKEN_SECRET_BYTES:
            raise DataDirectoryError(f"{self.token_secret_file} holds fewer than {TOKEN_SECRET_BYTES} bytes")
        return secret

    def write_private(self, path: Path, content: bytes) -> None:
        """Replace the file `path` of this directory with `content`; the new file has mode 0600. Raises OSError."""
        with replacing(path, self.temporary) as file:
            file.write(content)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the directory during the block, so that only one process at a time reads and rewrites a small file."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
