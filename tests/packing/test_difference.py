"""What two releases share: images, blobs, and the size of a thin archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from loader.packing.difference import Difference
from loader.packing.thin import thin
from tests.packing.packs import unwatched
from tests.support.handmade_image import HandmadeImage, seal
from tests.support.thin_archives import BOTTOM, DATABASE, MIDDLE, OTHER_ROOT, index_of, release


def difference(old: Path, new: Path) -> Difference:
    return Difference.of(index_of(old), index_of(new))


def test_the_size_of_a_thin_archive_is_told_before_it_is_made(tmp_path: Path) -> None:
    old, new = release(tmp_path / "old.enc", 1), release(tmp_path / "new.enc", 2)
    found = difference(old, new)
    thin(new, old, tmp_path / "delta.enc", unwatched)
    assert found.thin_size == (tmp_path / "delta.enc").stat().st_size
    document = found.document()
    assert document["same_root"] is True
    assert (document["old"]["serial"], document["new"]["serial"]) == (1, 2)
    assert document["shared"]["blobs"] == 4  # two layers, and manifest and configuration of the database
    assert document["added"]["blobs"] == document["removed"]["blobs"] == 3
    stored = sum(blob.stored_size for blob in index_of(new).head.blobs)
    assert document["shared"]["size"] + document["added"]["size"] == stored


def test_each_image_is_new_changed_the_same_or_gone(tmp_path: Path) -> None:
    same, gone = DATABASE, HandmadeImage("gone:1", (MIDDLE,))
    old = seal(tmp_path / "old.enc", [same, HandmadeImage("app:1", (BOTTOM,)), gone])
    new = seal(tmp_path / "new.enc", [HandmadeImage("app:1", (BOTTOM, MIDDLE)), same, HandmadeImage("added:1")])
    assert difference(old, new).changes == {
        "docker.io/library/app:1": "changed",
        "registry.local:5000/database:9": "same",
        "docker.io/library/added:1": "added",
        "docker.io/library/gone:1": "removed",
    }


def test_an_archive_does_not_differ_from_itself(tmp_path: Path) -> None:
    path = release(tmp_path / "images.enc", 1)
    found = difference(path, path)
    assert found.added == found.removed == ()
    assert set(found.changes.values()) == {"same"}
    assert found.thin_size < 4096


@pytest.mark.parametrize("number", [1, 2])
def test_releases_of_different_roots_share_images_but_no_blob(number: int, tmp_path: Path) -> None:
    old = release(tmp_path / "old.enc", 1)
    found = difference(old, release(tmp_path / "new.enc", number, root=OTHER_ROOT))
    assert found.shared == ()
    assert found.document()["same_root"] is False
    assert found.changes["registry.local:5000/database:9"] == "same"
