"""The reader of tars: the names of long and odd headers, bombs, and tars that are cut anywhere."""

from __future__ import annotations

import io
import itertools
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loader.errors import SourceCorrupt
from loader.packing import tar_stream
from loader.packing.tar_stream import EXTENSION_MAX_SIZE, tar_members
from tests.packing.hand_sources import Files, add, docker_files, oci_files, tar_of
from tests.packing.packs import pack_path
from tests.support.handmade_image import HandmadeImage, HandmadeLayer

LONG = "long/" * 60 + "name"
SECONDS_PER_MIB = 5.0
IMAGE = HandmadeImage("cut/app:1", (HandmadeLayer(b"cut", 700), HandmadeLayer(b"short", 1)))


def members(data: bytes, step: int = 1000) -> dict[str, bytes | str]:
    """Read a tar that comes in pieces of `step` bytes."""
    pieces = (data[begin : begin + step] for begin in range(0, len(data), step))
    return {
        member.name: b"".join(map(bytes, member.pieces)) if member.target is None else member.target
        for member in tar_members(pieces)
    }


@pytest.mark.parametrize("step", [1, 511, 512, 10_240])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_a_tar_is_read(form: int, step: int) -> None:
    long = "folder/" * 20 + "name"
    files: Files = {"a": b"x" * 1000, "./b": b"", long: b"y" * 512, "link": "a", f"{long}.link": "../" * 20 + "a"}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        for name, content in files.items():
            add(archive, name, content)
    assert members(made.getvalue(), step) == {
        "a": b"x" * 1000,
        "b": b"",
        long: b"y" * 512,
        "link": "a",
        f"{long}.link": "a",
    }


def test_names_of_any_characters_are_read() -> None:
    files: Files = {"für/名.txt": b"1", LONG: b"2", f"{LONG}.link": "../" * 60 + "z"}
    assert members(tar_of(files)) == files | {f"{LONG}.link": "z"}


def test_content_that_nobody_reads_is_skipped() -> None:
    data = tar_of({"a": b"x" * 5000, "b": b"y"})
    assert [member.name for member in tar_members([data])] == ["a", "b"]


def test_directories_are_no_members() -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name in (".", "./folder", "folder/"):
            add(archive, name, b"", tarfile.DIRTYPE)
    assert members(made.getvalue()) == {}


def header(kind: bytes, content: bytes, size: int | None = None) -> bytes:
    entry = tarfile.TarInfo("extension")
    entry.type, entry.size = kind, len(content) if size is None else size
    return entry.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "cut short"),
        (b"text" * 200, "not a tar"),
        (bytes(1024) + b"x", "bytes follow the end"),
        (bytes(512) + b"x" * 512, "bytes follow the end"),
        (tar_of({"a": b""}) + tar_of({"b": b""}), "bytes follow the end"),
        (header(tarfile.XHDTYPE, b"", EXTENSION_MAX_SIZE + 1), "extended header of"),
        (header(tarfile.GNUTYPE_LONGNAME, b"", 1 << 40), "extended header of"),
        (header(tarfile.XGLTYPE, b"", 1 << 40), "extended header of"),
        (header(tarfile.XHDTYPE, b"no number"), "malformed extended header"),
        (header(tarfile.XHDTYPE, b"99 path=x\n"), "malformed extended header"),
        (header(tarfile.XHDTYPE, b"0 path=x\n"), "malformed extended header"),
        (header(tarfile.XHDTYPE, b"9path=x\n"), "malformed extended header"),
        (header(tarfile.XHDTYPE, b"11 path=x\n\0\0"), "malformed extended header"),
        (header(tarfile.XHDTYPE, b"3 \n6 a=b\n"), "malformed extended header"),
        (header(tarfile.XHDTYPE, b"10 path=xy"), "malformed extended header"),
        (header(tarfile.XHDTYPE, b"12 size=-99\n") + tar_of({"a": b""}), "no number"),
        (header(tarfile.XHDTYPE, b"22 GNU.sparse.major=1\n") + tar_of({"a": b""}), "sparse file"),
        (header(tarfile.GNUTYPE_SPARSE, b""), "neither a file"),
        (header(tarfile.REGTYPE, b"", -1), "negative size"),
    ],
)
def test_a_malformed_tar_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(SourceCorrupt, match=told):
        members(data)


def test_the_largest_extended_header_is_read() -> None:
    record = b"path=" + b"x" * (EXTENSION_MAX_SIZE - 20)
    record = b"%d %s\n" % (len(record) + 9, record)
    assert len(record) == int(record.split(b" ")[0]) <= EXTENSION_MAX_SIZE
    (name,) = members(header(tarfile.XHDTYPE, record) + tar_of({"a": b""}), 1 << 20)
    assert set(name) == {"x"}


def test_a_header_of_many_small_records_is_read_in_time() -> None:
    records = b"6 k=v\n" * ((EXTENSION_MAX_SIZE - 20) // 6) + b"10 path=z\n"
    started = time.thread_time()
    assert members(header(tarfile.XHDTYPE, records) + tar_of({"a": b""}), 1 << 20) == {"z": b""}
    assert time.thread_time() - started < SECONDS_PER_MIB


def test_too_many_members_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_stream, "MAX_MEMBERS", 3)
    assert len(members(tar_of(dict.fromkeys("abc", b"")))) == 3
    with pytest.raises(SourceCorrupt, match="more than 3 files"):
        members(tar_of(dict.fromkeys("abcd", b"")))


def test_what_the_source_raises_passes_through() -> None:
    def failing() -> Iterator[bytes]:
        yield tar_of({"a": b"x"})[:600]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        list(tar_members(failing()))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), files=st.sampled_from([docker_files(IMAGE), oci_files(IMAGE)]))
def test_a_tar_that_is_cut_anywhere_is_refused_or_whole(data: st.DataObject, files: Files, tmp_path: Path) -> None:
    whole = tar_of(files)
    cut = data.draw(st.integers(0, len(whole)))
    origin, output = tmp_path / "cut.tar", tmp_path / "images.enc"
    origin.write_bytes(whole[:cut])
    try:
        assert pack_path(origin, output).images == (IMAGE.image,)
    except SourceCorrupt:
        assert cut < len(whole) - 512
        assert not output.exists()
    output.unlink(missing_ok=True)
    assert list(tmp_path.iterdir()) == [origin]


@pytest.mark.parametrize("zeros", [1, 512, 10_240, (3 << 20) + 1])
def test_zeros_behind_a_tar_are_left_out(zeros: int) -> None:
    """As a disk or a tape has them, to which the tar was copied."""
    assert members(tar_of({"a": b"x"}) + bytes(zeros), 1 << 16) == {"a": b"x"}
    with pytest.raises(SourceCorrupt, match="bytes follow the end"):
        members(tar_of({"a": b"x"}) + bytes(zeros) + b"x", 1 << 16)


def test_a_tar_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_stream, "END_MAX_SIZE", 1 << 22)
    with pytest.raises(SourceCorrupt, match="bytes follow the end"):
        list(tar_members(itertools.repeat(bytes(1 << 16))))
