"""`images pack --base`, `thin`, `join` and `diff` as commands: options, output, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.packing_runs import assert_refused, invoke
from tests.support.flips import flip_in_file
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive
from tests.support.thin_archives import BOTTOM, OTHER_ROOT, holding, index_of, release


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return release(tmp_path / "old.enc", 1)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return release(tmp_path / "new.enc", 2)


def source(directory: Path) -> Path:
    image = HandmadeImage("app:3", (BOTTOM, HandmadeLayer(b"three", 10, "three")))
    (directory / "source.tar").write_bytes(b"".join(docker_archive(image)))
    return directory / "source.tar"


def test_what_changed_is_carried_and_joined(old: Path, new: Path, tmp_path: Path) -> None:
    delta, whole = tmp_path / "delta.enc", tmp_path / "whole.enc"
    told = invoke("images", "diff", old, new)
    assert "registry.local:5000/app:2: added\n  registry.local:5000/database:9: same\n" in told.stdout
    result = invoke("images", "thin", new, "--base", old, "-o", delta)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{delta}: ")
    assert told.stdout.endswith(f"a thin archive has {result.stdout.rpartition(': ')[2]}")
    assert "incomplete: it lacks 4 blobs" in invoke("images", "show", delta).stdout
    assert invoke("images", "join", delta, "--base", old, "-o", whole).exit_code == 0
    assert whole.read_bytes() == new.read_bytes()
    document = json.loads(invoke("images", "diff", old, new, "--json").stdout)
    assert document["thin_size"] == delta.stat().st_size


def test_different_roots_are_told(old: Path, tmp_path: Path) -> None:
    other = release(tmp_path / "other.enc", 2, root=OTHER_ROOT)
    assert "the roots differ, so a thin archive is not possible" in invoke("images", "diff", old, other).stdout
    for command in ("thin", "join"):
        result = invoke("images", command, other, "--base", old, "-o", tmp_path / "out.enc")
        assert_refused(result, "VALIDATION_FAILED", 4)
    assert not (tmp_path / "out.enc").exists()


def test_an_output_never_replaces_what_is_read(old: Path, new: Path) -> None:
    before = old.read_bytes(), new.read_bytes()
    for command in ("thin", "join"):
        for output in (old, new):
            assert invoke("images", command, new, "--base", old, "-o", output).exit_code == 2
    assert (old.read_bytes(), new.read_bytes()) == before


def test_a_release_keeps_root_and_layers_of_its_base(old: Path, key: Path, output: Path, tmp_path: Path) -> None:
    pack = ("images", "pack", "--from", source(tmp_path), "--key", key, "-o", output)
    result = invoke(*pack, "--base", old)
    assert result.exit_code == 0, result.output
    head, before = index_of(output).head, index_of(old).head
    assert head.root_id == before.root_id
    assert head.blob[BOTTOM.described[0]] == before.blob[BOTTOM.described[0]]
    assert invoke("images", "verify", output, "--key", key).exit_code == 0
    assert invoke(*pack[:-1], old, "--base", old).exit_code == 2


def test_the_serial_grows_whatever_the_clock_says(key: Path, output: Path, tmp_path: Path) -> None:
    future = 1 << 50
    base = release(tmp_path / "base.enc", future)
    pack = ("images", "pack", "--from", source(tmp_path), "--key", key, "-o", output, "--base", base)
    for options, serial in (((), future + 1), (("--new-root",), future + 1), (("--serial", "7"), 7)):
        result = invoke(*pack, *options)
        assert result.exit_code == 0, result.output
        assert index_of(output).head.release.serial == serial


def test_a_new_root_takes_nothing_from_a_base_of_any_key(old: Path, output: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    other.write_bytes(b"x" * 32)
    pack = ("images", "pack", "--from", source(tmp_path), "--key", other, "-o", output, "--base", old)
    assert_refused(invoke(*pack), "KEY_MISMATCH", 7)
    assert invoke(*pack, "--new-root").exit_code == 0
    head, before = index_of(output).head, index_of(old).head
    assert head.root_id != before.root_id
    assert {blob.stored for blob in head.blobs}.isdisjoint(blob.stored for blob in before.blobs)
    assert invoke("images", "verify", output, "--key", other).exit_code == 0


def test_a_new_root_without_a_base_is_wrong_usage(key: Path, output: Path, tmp_path: Path) -> None:
    result = invoke("images", "pack", "--from", source(tmp_path), "--key", key, "-o", output, "--new-root")
    assert result.exit_code == 2
    assert "--new-root needs --base" in result.stderr


def test_blobs_beside_an_archive_are_shown_and_verified(old: Path, new: Path, tmp_path: Path) -> None:
    path = holding(tmp_path / "images.enc", new, old)
    for command in ("show", "verify"):
        told = invoke("images", command, path)
        assert told.exit_code == 0
        assert f"\n{tmp_path}/images.blobs: 4 blobs of 2 MB\n" in told.stdout
        assert "incomplete" not in told.stdout
    flip_in_file(max((tmp_path / "images.blobs").iterdir(), key=lambda blob: blob.stat().st_size), 1 << 20)
    assert invoke("images", "verify", path).exit_code == 7
