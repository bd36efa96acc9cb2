"""Configurations that cannot be used: only those of the wanted images are told, each with the name of its image."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loader.crypto.archive_head import CREATED_MAX_LENGTH
from loader.errors import SourceCorrupt
from loader.packing.pack import Wishes, pack
from loader.packing.sources import DirectorySource
from tests.packing.configured import GOOD, configured
from tests.packing.hand_sources import CONFIG_TYPE, Files, directory_of, docker_files, oci_files, put_blob, tar_of
from tests.packing.packs import pack_path, refusal
from tests.support.handmade_image import FRAGMENT

LONG_TIME = "2026-01-02T03:04:05." + "6" * 44 + "Z"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"config": {"Env": 5}}, "its field config.Env is not a list of texts"),
        ({"os": "Linux"}, "its platform 'Linux/amd64' is malformed or too long"),
        ({"architecture": "ARM64"}, "its platform 'linux/ARM64' is malformed or too long"),
        ({"architecture": "a" * 60}, "is malformed or too long"),
        ({"architecture": "arm", "variant": "v7/../x"}, "is malformed or too long"),
        ({"architecture": "é"}, "is malformed or too long"),
        ({"os": ""}, "its platform 'amd64' is malformed or too long"),
        ({"created": LONG_TIME}, f"created has {CREATED_MAX_LENGTH + 1} characters"),
    ],
)
@pytest.mark.parametrize("form", ["tar", "directory", "layout"])
def test_the_error_names_the_image(form: str, fields: dict[str, Any], told: str, tmp_path: Path, output: Path) -> None:
    bad = configured(**fields)
    files = (oci_files if form == "layout" else docker_files)(GOOD, bad)
    origin = tmp_path / "source"
    if form == "tar":
        origin.write_bytes(tar_of(files))
    else:
        directory_of(files, origin)
    said = refusal(origin, output)
    assert said.startswith(f"SOURCE_CORRUPT: The image docker.io/{bad.reference} cannot be packed. ")
    assert told in said
    # The image that is well can be packed alone.
    assert pack_path(origin, output, [GOOD.reference]).images == (GOOD.image,)


def test_a_fault_of_a_configuration_in_a_directory_is_told_before_a_layer_is_read(tmp_path: Path, output: Path) -> None:
    read = 0

    @contextmanager
    def counting(_label: str, _total: int) -> Iterator[Callable[[int], None]]:
        def count(size: int) -> None:
            nonlocal read
            read += size

        yield count

    origin = directory_of(docker_files(configured(os="Linux")), tmp_path / "source")
    with pytest.raises(SourceCorrupt, match="malformed or too long"):
        pack(DirectorySource(origin, [], None), Wishes(), FRAGMENT, output, counting)
    assert read == 0


def foreign_artifact(files: Files) -> None:
    """Add a manifest as it holds a signature or a chart: its configuration is none of an image."""
    index = json.loads(files["index.json"])
    config = put_blob(files, b'{"name": "chart"}', CONFIG_TYPE)
    manifest = json.dumps({"schemaVersion": 2, "config": config, "layers": []}).encode()
    index["manifests"].append(put_blob(files, manifest, "application/vnd.oci.image.manifest.v1+json"))
    files["index.json"] = json.dumps(index).encode()


def missing_configuration(files: Files) -> None:
    put_in_manifest(files, "absent.json")


def folder_as_configuration(files: Files) -> None:
    put_in_manifest(files, "good")
    files["good/file"] = b""


def put_in_manifest(files: Files, config: str) -> None:
    entries = json.loads(files["manifest.json"])
    files["manifest.json"] = json.dumps([*entries, {"Config": config, "RepoTags": ["other:1"], "Layers": []}]).encode()


@pytest.mark.parametrize("form", ["tar", "directory"])
@pytest.mark.parametrize("change", [foreign_artifact, missing_configuration, folder_as_configuration])
def test_what_nobody_wants_is_not_judged(
    change: Callable[[Files], None], form: str, tmp_path: Path, output: Path
) -> None:
    files = (oci_files if change is foreign_artifact else docker_files)(GOOD)
    change(files)
    origin = tmp_path / "source"
    if form == "tar":
        origin.write_bytes(tar_of(files))
    else:
        directory_of(files, origin)
    assert pack_path(origin, output, [GOOD.reference]).images == (GOOD.image,)
    output.unlink()
    refusal(origin, output)
