"""What the packer wants of the configuration of an image: engines refuse one with a field of another type.

Sources: OCI image specification 1.1 (config.md), and the Docker image specification 1.2 for the fields that only Docker
has. The names of fields are compared without case, because engines do so (Go, encoding/json).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loader.crypto.archive_head import is_created, is_platform
from loader.errors import CorruptCiphertext
from loader.oci import RFC_3339, ImageConfig, parse_json


@dataclass(frozen=True)
class _Kind:
    """A type of a field. `null` is a value of every type."""

    name: str
    fits: Callable[[Any], bool]


def _each(kind: _Kind, values: Any) -> bool:
    return all(value is None or kind.fits(value) for value in values)


def _list_of(kind: _Kind, name: str) -> _Kind:
    return _Kind(name, lambda value: isinstance(value, list) and _each(kind, value))


def _object_of(kind: _Kind, name: str) -> _Kind:
    return _Kind(name, lambda value: isinstance(value, dict) and _each(kind, value.values()))


def _is_time(value: Any) -> bool:
    try:
        return RFC_3339.fullmatch(value) is not None and datetime.fromisoformat(value) is not None
    except (TypeError, ValueError):
        return False


_TEXT = _Kind("a text", lambda value: isinstance(value, str))
_FLAG = _Kind("true or false", lambda value: isinstance(value, bool))
_NUMBER = _Kind("an integer of 64 bits", lambda value: type(value) is int and -(1 << 63) <= value < 1 << 63)
_TIME = _Kind("a time of RFC 3339", _is_time)
_OBJECT = _Kind("an object", lambda value: isinstance(value, dict))
_TEXTS = _list_of(_TEXT, "a list of texts")
_OBJECTS = _list_of(_OBJECT, "a list of objects")
_TEXT_BY_NAME = _object_of(_TEXT, "an object of texts")
_OBJECT_BY_NAME = _object_of(_OBJECT, "an object of objects")

_FIELDS = {
    **dict.fromkeys(("author", "comment", "container", "docker_version", "os.version", "variant"), _TEXT),
    "created": _TIME,
    "os.features": _TEXTS,
    "config": _OBJECT,
    "history": _OBJECTS,
}
_SETTINGS = {
    **dict.fromkeys(("user", "workingdir", "stopsignal", "hostname", "domainname", "image"), _TEXT),
    **dict.fromkeys(("env", "entrypoint", "cmd", "onbuild"), _TEXTS),
    **dict.fromkeys(("memory", "memoryswap", "cpushares", "stoptimeout"), _NUMBER),
    **dict.fromkeys(("exposedports", "volumes"), _OBJECT_BY_NAME),
    "labels": _TEXT_BY_NAME,
    "healthcheck": _OBJECT,
    "argsescaped": _FLAG,
}
_ROOTFS = {"type": _TEXT, "diff_ids": _TEXTS}
_HISTORY = {
    **dict.fromkeys(("author", "created_by", "comment"), _TEXT),
    "created": _TIME,
    "empty_layer": _FLAG,
}


def parse_configuration(data: bytes) -> ImageConfig:
    """Parse a configuration. Raises CorruptCiphertext, with the reason, if no archive or no engine could take it."""
    settings = ImageConfig.parse(data)
    for where, fields, document in _parts(parse_json(data)):
        for name, value in document.items():
            kind = fields.get(name.casefold())
            if kind is not None and value is not None and not kind.fits(value):
                raise CorruptCiphertext(f"its field {where}{name} is not {kind.name}")
    if not is_platform(settings.platform):
        raise CorruptCiphertext(f"its platform {settings.platform[:80]!r} is malformed or too long")
    if not is_created(settings.created):
        raise CorruptCiphertext(f"its field created has {len(settings.created)} characters, which is too long")
    return settings


def _parts(document: dict[str, Any]) -> Iterator[tuple[str, Mapping[str, _Kind], dict[str, Any]]]:
    """Yield each object with fields of certain types: where it stands, its fields, and itself, the outermost first."""
    yield "", _FIELDS, document
    yield "rootfs.", _ROOTFS, document["rootfs"]
    parts = {name.casefold(): value for name, value in document.items()}
    yield "config.", _SETTINGS, parts.get("config") or {}
    for entry in parts.get("history") or ():
        yield "history.", _HISTORY, entry or {}
