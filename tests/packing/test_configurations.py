"""Configurations that no engine takes: each is refused at the pack, with the name of its image and the field."""

from __future__ import annotations

from typing import Any

import pytest
from docker.errors import APIError, ImageLoadError

from loader.errors import CorruptCiphertext
from loader.packing.configurations import parse_configuration
from tests.packing.configured import configured
from tests.packing.matrix_packers import ENGINES
from tests.support.archives import PREFIX
from tests.support.engines import Engine
from tests.support.handmade_image import docker_archive

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
