"""The configuration: environment variables in, one frozen `Settings` out.

`VARIABLES` is the one table of it. `Settings.from_env` reads it and the README's table is compared with it by a test.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class BadSettings(Exception):
    """The environment cannot be used. `str()` is one line that names every problem."""


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value.strip()


def _http_url(value: str) -> str:
    url = urlsplit(value.strip())
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("must be an http:// or https:// address")
    if url.query or url.fragment or url.username or url.password:
        raise ValueError("must not hold credentials, a query or a fragment")
    return value.strip().rstrip("/")


def _path(value: str) -> Path:
    path = Path(_text(value))
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


def _tag(value: str) -> str:
    # The tag grammar of an image reference (OCI distribution specification, "Pulling manifests").
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", value):
        raise ValueError("must be an image tag")
    return value


def _names(value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def _positive_int(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", value) or int(value) == 0:
        raise ValueError("must be a whole number from 1 to 999999")
    return int(value)


def _byte_count(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", value):
        raise ValueError("must be a number of bytes")
    return int(value)


def _unlock_mode(value: str) -> str:
    if value not in ("tar", "stream"):
        raise ValueError("must be tar or stream")
    return value


def _bind(value: str) -> str:
    if value.startswith("unix:") and len(value) > len("unix:"):
        return value
    if re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):[0-9]{1,5}", value) and int(value.rpartition(":")[2]) <= 65535:
        return value
    raise ValueError("must be host:port or unix:/path")


def _level(value: str) -> str:
    if value.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        raise ValueError("must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return value.upper()


def _ca_bundle(value: str) -> str | None:
    """A path to PEM certificates; empty means those that the system's OpenSSL trusts, which is None."""
    if not value:
        return None
    try:
        ssl.create_default_context(cafile=value)
    except OSError as exc:
        raise ValueError("names no file of PEM certificates") from exc
    return value


@dataclass(frozen=True)
class Variable:
    """One row of the configuration table: `field` is the attribute of `Settings` that it fills."""

    name: str
    field: str
    default: str
    parse: Callable[[str], Any]
    meaning: str


VARIABLES = (
    Variable("RESOURCE_API_URL", "resource_api_url", "https://api.azaion.com", _http_url, "base URL of the API"),
    Variable("IMAGES_PATH", "images_path", "/opt/azaion/images.enc", _path, "the encrypted archive of images"),
    Variable("API_VERSION", "api_version", "latest", _tag, "the image tag that the archive must hold"),
    Variable(
        "MODEL_CACHE_DIR",
        "model_cache_dir",
        "/opt/azaion/models",
        _path,
        "where encrypted parts of models and the remembered manifest lie",
    ),
    Variable(
        "MODEL_CACHE_MAX_BYTES",
        "model_cache_max_bytes",
        "0",
        _byte_count,
        "limit of the encrypted parts there, in bytes; 0 means none. Least recently used ones go first",
    ),
    Variable(
        "EXPECTED_IMAGES",
        "expected_images",
        "",
        _names,
        "images expected when there is no archive, separated by commas; without a tag, `:API_VERSION` is meant",
    ),
    Variable(
        "UNLOCK_MODE",
        "unlock_mode",
        "tar",
        _unlock_mode,
        "`tar`: decrypt to a file, then load it; `stream`: verify, then decrypt into the engine, no plaintext on disk",
    ),
    Variable("LOADER_BIND", "bind", "127.0.0.1:8080", _bind, "address, or `unix:` and a path, to listen on"),
    Variable("LOADER_THREADS", "threads", "32", _positive_int, "threads that answer requests"),
    Variable(
        "MAX_TRANSFERS",
        "max_transfers",
        "8",
        _positive_int,
        "loads, uploads and verifications at a time; more get BUSY",
    ),
    Variable(
        "TRUSTED_HOSTS",
        "trusted_hosts",
        "localhost,127.0.0.1,[::1]",
        _names,
        "Host headers that are answered, separated by commas",
    ),
    Variable(
        "RESOURCE_API_CA_BUNDLE",
        "resource_api_ca_bundle",
        "",
        _ca_bundle,
        "PEM file of the authorities that vouch for the API; empty: the system's",
    ),
    Variable("API_CONNECT_TIMEOUT", "api_connect_timeout", "5", _positive_int, "seconds to connect to the API"),
    Variable("API_READ_TIMEOUT", "api_read_timeout", "60", _positive_int, "seconds that the API may be silent"),
    Variable("ENGINE_TIMEOUT", "engine_timeout", "1800", _positive_int, "seconds that the Docker engine may be silent"),
    Variable("LOG_LEVEL", "log_level", "INFO", _level, "DEBUG, INFO, WARNING, ERROR or CRITICAL"),
)


@dataclass(frozen=True)
class Settings:
    """The configuration of one loader. Times are seconds."""

    resource_api_url: str
    images_path: Path
    api_version: str
    model_cache_dir: Path
    model_cache_max_bytes: int
    expected_images: tuple[str, ...]
    unlock_mode: str
    bind: str
    threads: int
    max_transfers: int
    trusted_hosts: tuple[str, ...]
    resource_api_ca_bundle: str | None
    api_connect_timeout: int
    api_read_timeout: int
    engine_timeout: int
    log_level: str

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Settings from `env`. An unset variable takes its default; raises `BadSettings` with all problems at once."""
        values: dict[str, Any] = {}
        problems: list[str] = []
        for variable in VARIABLES:
            try:
                values[variable.field] = variable.parse(env.get(variable.name, variable.default))
            except ValueError as exc:
                problems.append(f"{variable.name} {exc}")
        if problems:
            raise BadSettings("bad configuration: " + "; ".join(problems))
        return cls(**values)

    @property
    def expected_references(self) -> tuple[str, ...]:
        """EXPECTED_IMAGES as full references: a name without a tag or digest gets `:API_VERSION`."""
        return tuple(self._with_tag(name) for name in self.expected_images)

    def _with_tag(self, name: str) -> str:
        has_tag = ":" in name.rpartition("/")[2] or "@" in name
        return name if has_tag else f"{name}:{self.api_version}"
