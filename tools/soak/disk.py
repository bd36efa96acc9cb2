"""The small disk of the cache, which the soak fills and makes read-only."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from loader.crypto.model_parts import ResourceName, SmallPart
from tests.support.processes import poll
from tests.support.small_disk import free_bytes, make_read_only, make_writable
from tools.soak.models import FOLDER

SIZE = 48 << 20
# A disk refuses to become read-only while a file on it is open for writing, so wait for a moment without one.
REMOUNT_SECONDS = 20.0


class CacheDisk:
    """The disk mounted at `path`, whose directory `cache` is MODEL_CACHE_DIR."""

    def __init__(self, path: Path, resources: Path) -> None:
        """`resources` is the directory of the API with the objects by their path."""
        self.path = path
        self.cache = path / "models"
        self._filler = path / "filler"
        self._resources = resources

    def fill(self) -> None:
        """Take every free byte of the disk, as a log that grows without end; call it again for what was freed since."""
        # The loader may take some bytes first.
        with suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while free := free_bytes(self.path):
                file.write(bytes(free))

    def empty(self) -> None:
        """Free what `fill` has taken."""
        self._filler.unlink(missing_ok=True)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Make the disk read-only during the block. Raises AssertionError if a file stays open for writing."""
        poll(self._remounted, REMOUNT_SECONDS, "no file of the cache is open for writing")
        try:
            yield
        finally:
            make_writable(self.path)

    def _remounted(self) -> bool:
        with suppress(subprocess.CalledProcessError):
            make_read_only(self.path)
            return True
        return False

    def whole_part(self, filename: str) -> str | None:
        """Return what identifies the part of a model that is whole on the disk; None if its load must download.

        A model without a big part needs no disk.
        """
        name = ResourceName(FOLDER, filename)
        with suppress(OSError):
            big = SmallPart.from_bytes((self._resources / name.small).read_bytes()).big
            if big is None:
                return "no big part"
            return f"{big.digest} {(self.cache / f'{big.digest}.big').stat().st_ino}"
        return None
