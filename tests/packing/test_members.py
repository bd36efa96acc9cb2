"""Members and files with odd names, kinds and links: none leads out of the source."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from tests.packing.hand_sources import (
    add,
    directory_of,
    docker_files,
)
from tests.packing.lies import (
    CONFIG,
    FIRST_TAR,
    IMAGE,
    odd_member,
)
from tests.packing.packs import pack_path, refusal


@pytest.mark.parametrize(
    ("name", "kind", "target", "told"),
    [
        ("manifest.json", tarfile.REGTYPE, "", "has 'manifest.json' twice"),
        ("./manifest.json", tarfile.REGTYPE, "", "has 'manifest.json' twice"),
        ("0.0/layer.tar", tarfile.REGTYPE, "", "twice"),
        ("manifest.json", tarfile.SYMTYPE, CONFIG, "has 'manifest.json' twice"),
        ("/etc/passwd", tarfile.REGTYPE, "", "unsafe name '/etc/passwd'"),
        ("a/../../b", tarfile.REGTYPE, "", "unsafe name"),
        ("a/..", tarfile.DIRTYPE, "", "unsafe name"),
        ("hard", tarfile.LNKTYPE, "../outside", "leads out of it"),
        ("soft", tarfile.SYMTYPE, "/outside", "leads out of it"),
        ("pipe", tarfile.FIFOTYPE, "", "neither a file, a directory nor a link"),
        ("disk", tarfile.BLKTYPE, "", "neither a file, a directory nor a link"),
        ("terminal", tarfile.CHRTYPE, "", "neither a file, a directory nor a link"),
    ],
)
def test_an_odd_member_is_refused(name: str, kind: bytes, target: str, told: str, tmp_path: Path, output: Path) -> None:
    origin = tmp_path / "source.tar"
    origin.write_bytes(odd_member(name, kind, target))
    said = refusal(origin, output)
    assert said.startswith("SOURCE_CORRUPT: ")
    assert told in said


def test_a_hard_link_within_the_tar_is_followed(tmp_path: Path, output: Path) -> None:
    files = docker_files(IMAGE)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            is_hard = name == "0.0/layer.tar"
            add(archive, name, FIRST_TAR if is_hard else content, tarfile.LNKTYPE if is_hard else tarfile.REGTYPE)
    (tmp_path / "source.tar").write_bytes(made.getvalue())
    assert pack_path(tmp_path / "source.tar", output).images == (IMAGE.image,)


@pytest.mark.parametrize("what", ["link", "parent", "fifo", "folder"])
def test_a_directory_is_never_left(what: str, tmp_path: Path, output: Path) -> None:
    files = docker_files(IMAGE)
    first = files.pop(FIRST_TAR)
    assert isinstance(first, bytes)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / FIRST_TAR).write_bytes(first)
    origin = directory_of(files, tmp_path / "source")
    place = origin / FIRST_TAR
    if what == "link":
        place.symlink_to(outside / FIRST_TAR)
    elif what == "parent":
        (origin / "0.0" / "layer.tar").unlink()
        (origin / "0.0").rmdir()
        (outside / "layer.tar").write_bytes(first)
        (origin / "0.0").symlink_to(outside)
    elif what == "fifo":
        os.mkfifo(place)
    else:
        place.mkdir()
    assert refusal(origin, output).startswith("SOURCE_CORRUPT: ")
