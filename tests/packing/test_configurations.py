"""Configurations that no engine takes: each is refused at the pack, with the name of its image and the field."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError, ImageLoadError

from loader.crypto.archive_head import CREATED_MAX_LENGTH, Release
from loader.docker_engine import EngineImage
from loader.errors import CorruptCiphertext, SourceCorrupt
from loader.packing.configurations import parse_configuration
from loader.packing.pack import Wishes, pack
from loader.packing.release import require_room
from loader.packing.sources import DirectorySource
from tests.packing.hand_sources import CONFIG_TYPE, Files, directory_of, docker_files, oci_files, put_blob, tar_of
from tests.packing.matrix_packers import ENGINES
from tests.packing.packs import pack_path, refusal
from tests.support.archives import PREFIX
from tests.support.engines import Engine
from tests.support.handmade_image import FRAGMENT, HandmadeImage, HandmadeLayer, docker_archive

LAYER = HandmadeLayer(b"layer", 3)
GOOD = HandmadeImage(f"{PREFIX}good:1", (LAYER,))
LONG_TIME = "2026-01-02T03:04:05." + "6" * 44 + "Z"


class Configured(HandmadeImage):
    """An image whose configuration has `settings` as fields of its own, and not in its part `config`."""

    @property
    def config(self) -> bytes:
        """The configuration of the image."""
        document = json.loads(HandmadeImage(self.reference, self.layers).config)
        return json.dumps(document | self.settings).encode()


def configured(**fields: Any) -> Configured:
    return Configured(f"{PREFIX}bad:1", (LAYER,), fields)


SETTINGS: list[tuple[str, Any]] = [
    ("Env", 5),
    ("Env", "PATH=/bin"),
    ("Env", {"PATH": "/bin"}),
    ("Env", [["PATH=/bin"]]),
    ("env", 5),
    ("Cmd", 5),
    ("Cmd", [1]),
    ("Cmd", "sh"),
    ("Entrypoint", "sh"),
    ("Entrypoint", {}),
    ("Labels", ["a"]),
    ("Labels", {"a": 1}),
    ("ExposedPorts", ["80/tcp"]),
    ("ExposedPorts", {"80/tcp": "x"}),
    ("Volumes", "/data"),
    ("Volumes", {"/data": True}),
    ("User", 1000),
    ("WorkingDir", ["/"]),
    ("StopSignal", 9),
    ("ArgsEscaped", "true"),
    ("Healthcheck", ["CMD"]),
    ("OnBuild", "RUN x"),
    ("StopTimeout", 1.5),
]
FIELDS: list[tuple[str, Any]] = [
    ("config", []),
    ("config", "x"),
    ("author", 5),
    ("os.version", 1),
    ("os.features", "x"),
    ("history", {}),
    ("history", ["RUN x"]),
    ("variant", 0),
    ("variant", False),
    ("created", 0),
    ("created", ""),
    ("created", "2026-13-02T03:04:05Z"),
    ("created", "2026-01-02T25:04:05Z"),
]
PARTS: list[tuple[dict[str, Any], str]] = [
    ({"history": [{"empty_layer": "yes"}]}, "its field history.empty_layer is not true or false"),
    ({"history": [None, {"created": "yesterday"}]}, "its field history.created is not a time"),
    ({"history": [{"created_by": ["RUN"]}]}, "its field history.created_by is not a text"),
    ({"Config": {"Env": 5}}, "its field config.Env is not a list of texts"),
    ({"rootfs": {"type": 5, "diff_ids": []}}, "its field rootfs.type is not a text"),
    ({"rootfs": {"type": "layers", "diff_ids": ""}}, "its field rootfs.diff_ids is not a list of texts"),
]


@pytest.mark.parametrize(("field", "value"), SETTINGS)
def test_a_setting_of_a_wrong_type_is_refused(field: str, value: object) -> None:
    with pytest.raises(CorruptCiphertext, match=f"its field config.{field} is not "):
        parse_configuration(configured(config={field: value}).config)
    parse_configuration(configured(config={field: None, "Unknown": value, "Shell": "sh"}).config)


@pytest.mark.parametrize(("field", "value"), FIELDS)
def test_a_field_of_a_wrong_type_is_refused(field: str, value: object) -> None:
    with pytest.raises(CorruptCiphertext, match=rf"its field {field} is not |malformed"):
        parse_configuration(configured(**{field: value}).config)
    parse_configuration(configured(**{field: None}).config)


@pytest.mark.parametrize(("fields", "told"), PARTS)
def test_a_wrong_type_in_a_part_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(CorruptCiphertext, match=told):
        parse_configuration(configured(**fields).config)


def test_a_full_configuration_is_taken() -> None:
    settings = {
        "User": "1000:1000",
        "ExposedPorts": {"80/tcp": {}, "81/udp": None},
        "Env": ["PATH=/bin", None],
        "Entrypoint": ["/bin/sh"],
        "Cmd": [],
        "Volumes": {"/data": {}},
        "WorkingDir": "/",
        "Labels": {"a": "b", "c": None},
        "StopSignal": "SIGTERM",
        "ArgsEscaped": True,
        "Memory": 1 << 40,
        "Healthcheck": {"Test": ["NONE"]},
        "Unknown": 5,
    }
    created = "2026-01-02T03:04:05.123456789+02:00"
    config = configured(config=settings, history=[{"created": created, "empty_layer": True}], created=created).config
    assert parse_configuration(config).created == created


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


@pytest.mark.parametrize("platform", ["Linux/amd64", "linux/" + "a" * 60, "linux/amd64/v 1"])
def test_a_malformed_platform_is_told_before_an_engine_saves(platform: str) -> None:
    image = EngineImage(f"sha256:{'0' * 64}", (), 0, named=True, platform=platform)
    with pytest.raises(SourceCorrupt, match=f"The image docker.io/a/b:1 cannot be packed: its platform '{platform}'"):
        require_room(Release("1", 1, "2026-01-02T03:04:05Z"), {"docker.io/a/b:1": image})


@pytest.mark.parametrize("platform", ["", "linux", "linux/amd64", "linux/arm/v7"])
def test_an_engine_may_tell_the_platform_in_part(platform: str) -> None:
    image = EngineImage(f"sha256:{'0' * 64}", (), 0, named=True, platform=platform)
    require_room(Release("1", 1, "2026-01-02T03:04:05Z"), {"docker.io/a/b:1": image})


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


@pytest.mark.parametrize(("field", "value"), SETTINGS)
def test_an_engine_refuses_it_too(field: str, value: object, request: pytest.FixtureRequest) -> None:
    engines: list[Engine] = [request.getfixturevalue(device) for device in ENGINES]
    archive = b"".join(docker_archive(configured(config={field: value})))
    assert any(refuses(engine, archive) for engine in engines)


def refuses(engine: Engine, archive: bytes) -> bool:
    try:
        engine.client.images.load(archive)
    except (APIError, ImageLoadError):
        return True
    engine.client.images.remove(f"{PREFIX}bad:1")
    return False
