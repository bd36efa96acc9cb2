"""Checks of the files in a cache directory."""

from __future__ import annotations

from pathlib import Path

from tests.crypto.reference_archive import piece_digest
from tests.support.left_files import left
from tests.support.stored_resources import MIB, StoredResource


def assert_sound(models: Path, *resources: StoredResource) -> None:
    """Check that a cache holds only verified parts of `resources`, and unverified starts of them with their ETags.

    The bytes of an unverified start must be right, too.
    """
    known = {resource.big.digest: resource.big_file for resource in resources}
    for path in left(models.iterdir()):
        assert path.suffix in (".big", ".partial"), path
        assert path.stem in known, path
        assert path.stat().st_mode & 0o777 == 0o600
        if path.suffix == ".big":
            assert piece_digest(path.read_bytes()) == path.stem
        if path.suffix == ".partial":
            assert is_beginning(path, known[path.stem])


def is_beginning(path: Path, whole: Path) -> bool:
    """Return whether the file at `whole` starts with the bytes of the file at `path`."""
    with path.open("rb") as part, whole.open("rb") as source:
        while piece := part.read(MIB):
            if source.read(len(piece)) != piece:
                return False
    return True
