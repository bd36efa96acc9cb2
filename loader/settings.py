"""The configuration: reads environment variables into one frozen `Settings`.

Each field of `Settings` says in its metadata which variable it comes from. A test compares the README's table with the
fields, which `variables()` lists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loader import setting_values as parse
from loader.fetch_at import FetchAt
from loader.publisher_keys import PublisherKeys

# The exit code of a loader whose settings cannot be used: EX_CONFIG of sysexits.h, which systemd knows by that name.
BAD_SETTINGS_EXIT_CODE = 78


class BadSettings(Exception):
    """The environment cannot be used. `str()` is one line that names every problem."""


@dataclass(frozen=True)
class Variable:
    """An environment variable: `parse` turns its text into the value of a field of `Settings`.

    `default` is the text that counts if the variable is not set. `meaning` stands in the README.
    """

    name: str
    default: str
    parse: Callable[[str], Any]
    meaning: str


def _from(name: str, default: str, parse: Callable[[str], Any], meaning: str) -> dict[str, Variable]:
    """Return the metadata of a field that comes from this variable."""
    return {"variable": Variable(name, default, parse, meaning)}


@dataclass(frozen=True)
class Settings:
    """The configuration of one loader. Times are in seconds."""

    resource_api_url: str = field(
        metadata=_from("RESOURCE_API_URL", "https://api.azaion.com", parse.http_url, "base URL of the API")
    )
    device_name: str = field(
        metadata=_from(
            "DEVICE_NAME", "", parse.device_name, "what this device calls itself in the API's log; empty: the host name"
        )
    )
    images_path: Path = field(
        metadata=_from("IMAGES_PATH", "/opt/azaion/images.enc", parse.path, "the encrypted archive of images")
    )
    api_version: str = field(
        metadata=_from(
            "API_VERSION", "latest", parse.tag, "the version of the release that the archive must be; `latest`: any"
        )
    )
    model_cache_dir: Path = field(
        metadata=_from(
            "MODEL_CACHE_DIR",
            "/opt/azaion/models",
            parse.path,
            "where encrypted parts of models and the head of the last unlocked archive lie",
        )
    )
    model_cache_max_bytes: int = field(
        metadata=_from(
            "MODEL_CACHE_MAX_BYTES",
            "0",
            parse.byte_count,
            "limit of the encrypted parts there, in bytes; 0 means none. Least recently used ones go first",
        )
    )
    expected_images: tuple[str, ...] = field(
        metadata=_from(
            "EXPECTED_IMAGES",
            "",
            parse.names,
            "images expected when there is no archive, separated by commas; without a tag, `:API_VERSION` is meant",
        )
    )
    unlock_mode: str = field(
        metadata=_from(
            "UNLOCK_MODE",
            "tar",
            parse.unlock_mode,
            "`tar`: decrypt to a file, then load it; "
            "`stream`: verify, then decrypt into the engine, no plaintext on disk",
        )
    )
    bind: str = field(
        metadata=_from("LOADER_BIND", "127.0.0.1:8080", parse.bind, "address, or `unix:` and a path, to listen on")
    )
    threads: int = field(metadata=_from("LOADER_THREADS", "32", parse.positive_int, "threads that serve requests"))
    max_transfers: int = field(
        metadata=_from(
            "MAX_TRANSFERS", "8", parse.positive_int, "loads, uploads and verifications at a time; more get BUSY"
        )
    )
    trusted_hosts: tuple[str, ...] = field(
        metadata=_from(
            "TRUSTED_HOSTS",
            "localhost,127.0.0.1,[::1]",
            parse.names,
            "Host headers that the loader accepts, separated by commas",
        )
    )
    resource_api_ca_bundle: str | None = field(
        metadata=_from(
            "RESOURCE_API_CA_BUNDLE",
            "",
            parse.ca_bundle,
            "PEM file of the authorities that vouch for the API; empty: the system's",
        )
    )
    publisher_keys: PublisherKeys | None = field(
        metadata=_from(
            "PUBLISHER_KEYS",
            "",
            parse.publisher_keys,
            "file of the Ed25519 keys of which one must have signed archive and models; empty: none is asked for",
        )
    )
    signing_key: bytes | None = field(
        repr=False,
        metadata=_from(
            "SIGNING_KEY",
            "",
            parse.signing_key,
            "file of the Ed25519 key, mode 0600, that signs the models uploaded here; empty: they are not signed",
        ),
    )
    api_connect_timeout: int = field(
        metadata=_from("API_CONNECT_TIMEOUT", "5", parse.positive_int, "seconds to connect to the API")
    )
    api_read_timeout: int = field(
        metadata=_from("API_READ_TIMEOUT", "60", parse.positive_int, "seconds that the API may be silent")
    )
    api_patience: int = field(
        metadata=_from(
            "API_PATIENCE",
            "300",
            parse.positive_int,
            "seconds without a new byte after which a download is given up, and an upload that fails",
        )
    )
    fetch_at: FetchAt | None = field(
        metadata=_from(
            "FETCH_AT",
            "",
            FetchAt.parse,
            "when to look for a newer release of API_VERSION and fetch it: a local time of day such as `02:30`, or an "
            "interval such as `6h`; empty: never",
        )
    )
    credentials_file: Path | None = field(
        metadata=_from(
            "CREDENTIALS_FILE",
            "",
            parse.path_or_none,
            "file of two lines, e-mail and password, mode 0600 or a credential of systemd, with which the loader logs "
            "in by itself; empty: people log in",
        )
    )
    auto_unlock: bool = field(
        metadata=_from(
            "AUTO_UNLOCK",
            "0",
            parse.switch,
            "1: unlock by itself after a start, with CREDENTIALS_FILE, if images are missing",
        )
    )
    engine_timeout: int = field(
        metadata=_from(
            "ENGINE_TIMEOUT",
            "1800",
            parse.positive_int,
            "seconds that the Docker engine may be silent; more while it unpacks a large image",
        )
    )
    log_level: str = field(
        metadata=_from(
            "LOG_LEVEL", "INFO", parse.level, "DEBUG, INFO, WARNING, ERROR or CRITICAL; audit lines are always written"
        )
    )

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Return the settings in `env`; a variable that is not set has its default.

        Raises BadSettings with all problems at once.
        """
        values: dict[str, Any] = {}
        problems: list[str] = []
        for name, variable in variables().items():
            try:
                values[name] = variable.parse(env.get(variable.name, variable.default))
            except ValueError as exc:
                problems.append(f"{variable.name} {exc}")
        if values.get("auto_unlock") and values.get("credentials_file", ...) is None:
            problems.append("AUTO_UNLOCK needs CREDENTIALS_FILE")
        if problems:
            raise BadSettings("bad configuration: " + "; ".join(problems))
        return cls(**values)

    def told(self) -> dict[str, str]:
        """Return the settings for the log, by the names of the variables. Of SIGNING_KEY only whether there is one."""
        return {variable.name: _told(getattr(self, name)) for name, variable in variables().items()}

    @property
    def api_host(self) -> str:
        """Host and port of the API, as its URL has them."""
        return urlsplit(self.resource_api_url).netloc.rpartition("@")[2]

    @property
    def api_in_the_clear(self) -> bool:
        """Whether requests to the API cross a network without TLS."""
        url = urlsplit(self.resource_api_url)
        return url.scheme == "http" and not re.fullmatch(r"localhost|127(\.[0-9]+){3}|::1", url.hostname or "")

    @cached_property
    def expected_references(self) -> tuple[str, ...]:
        """EXPECTED_IMAGES as full references: a name without a tag or digest gets `:API_VERSION`."""
        return tuple(self._with_tag(name) for name in self.expected_images)

    def _with_tag(self, name: str) -> str:
        has_tag = ":" in name.rpartition("/")[2] or "@" in name
        return name if has_tag else f"{name}:{self.api_version}"


def _told(value: Any) -> str:
    match value:
        case None:
            return ""
        case bytes():
            return "set"
        case bool():
            return str(int(value))
        case PublisherKeys():
            return ",".join(key.name for key in value.keys)
        case tuple():
            return ",".join(value)
        case _:
            return str(value)


def variables() -> dict[str, Variable]:
    """Return the variables by the field of `Settings` that each fills."""
    return {each.name: each.metadata["variable"] for each in fields(Settings)}
