"""The settings of an S3-compatible store, from the environment.

RESOURCE_API_STORE              the store of big parts and image blobs, such as https://store.example.com; empty: DIR
RESOURCE_API_STORE_BUCKET       its bucket
RESOURCE_API_STORE_KEYS         a file with the access key in its first line and the secret key in its second one
RESOURCE_API_STORE_REGION       default us-east-1
RESOURCE_API_STORE_CA           a PEM file with the authorities of the store; default: those of the package certifi
RESOURCE_API_STORE_URL_SECONDS  how long presigned URLs are valid, default 600
RESOURCE_API_SMALL_BUCKET       a second bucket for everything else; empty: DIR/resources
RESOURCE_API_SMALL_KEYS         its keys, which have to be those of another account
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from resource_api.storage.s3_signature import KeyPair

_PREFIX = ("RESOURCE_API_STORE", "RESOURCE_API_SMALL_")
_PORTS = {"http": 80, "https": 443}
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-zA-Z0-9-]{1,64}")
_SECONDS = re.compile(r"[0-9]{1,6}")
# The most that the signature allows.
_MAX_SECONDS = 7 * 24 * 3600


class StoreSettingsError(ValueError):
    """A setting is missing or wrong. The text is one line for the operator, and contains no key."""


class BucketSettings(NamedTuple):
    """A bucket, and the account that may use it."""

    name: str
    keys: KeyPair


class StoreSettings(NamedTuple):
    """A store. `endpoint` is a URL without a path; `small` None means the data directory."""

    endpoint: str
    region: str
    authorities: Path | None
    url_seconds: int
    big: BucketSettings
    small: BucketSettings | None


def store_settings(environment: Mapping[str, str]) -> StoreSettings | None:
    """Return the settings of the store; None if there is none. Raises StoreSettingsError."""
    given = {name: value for name, value in environment.items() if name.startswith(_PREFIX) and value}
    if not given:
        return None
    endpoint = _endpoint(given)
    big, small = _bucket(given, "RESOURCE_API_STORE"), None
    if any(name.startswith("RESOURCE_API_SMALL_") for name in given):
        small = _bucket(given, "RESOURCE_API_SMALL")
        if small.name == big.name or small.keys.access_key == big.keys.access_key:
            raise StoreSettingsError(
                "RESOURCE_API_SMALL_BUCKET and RESOURCE_API_SMALL_KEYS must be another bucket and another account "
                "than those of RESOURCE_API_STORE, because either bucket has to be worthless alone"
            )
    region = given.get("RESOURCE_API_STORE_REGION", "us-east-1")
    if not _REGION.fullmatch(region):
        raise StoreSettingsError(f"RESOURCE_API_STORE_REGION is no region: {region!r}")
    return StoreSettings(endpoint, region, _authorities(given), _url_seconds(given), big, small)


def _endpoint(given: Mapping[str, str]) -> str:
    """Return the URL as clients will send its host, because the signature covers that."""
    if "RESOURCE_API_STORE" not in given:
        raise StoreSettingsError(f"{min(given)} is set, but RESOURCE_API_STORE is not")
    url = given["RESOURCE_API_STORE"]
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    path_is_empty = parts.path in ("", "/") and not parts.query and not parts.fragment
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None or not path_is_empty:
        raise StoreSettingsError(
            f"RESOURCE_API_STORE must be a URL such as https://store.example.com:8443, without a path, not {url!r}"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if port in (None, _PORTS[parts.scheme]) else f":{port}")


def _bucket(given: Mapping[str, str], prefix: str) -> BucketSettings:
    name = given.get(f"{prefix}_BUCKET", "")
    if not _BUCKET.fullmatch(name):
        raise StoreSettingsError(f"{prefix}_BUCKET must name a bucket, not {name!r}")
    if f"{prefix}_KEYS" not in given:
        raise StoreSettingsError(f"{prefix}_KEYS must name the file with the keys of the bucket {name}")
    return BucketSettings(name, _keys(f"{prefix}_KEYS", Path(given[f"{prefix}_KEYS"])))


def _keys(setting: str, path: Path) -> KeyPair:
    try:
        mode, lines = path.stat().st_mode, path.read_text().split()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise StoreSettingsError(f"{setting}: {path}: {reason}") from error
    if mode & 0o077:
        raise StoreSettingsError(f"{setting}: others may read {path}; chmod 600 it")
    if len(lines) != 2:
        raise StoreSettingsError(f"{setting}: {path} must have two lines: the access key and the secret key")
    return KeyPair(*lines)


def _authorities(given: Mapping[str, str]) -> Path | None:
    if "RESOURCE_API_STORE_CA" not in given:
        return None
    path = Path(given["RESOURCE_API_STORE_CA"])
    try:
        path.read_bytes()
    except OSError as error:
        raise StoreSettingsError(f"RESOURCE_API_STORE_CA: {path}: {error.strerror}") from error
    return path


def _url_seconds(given: Mapping[str, str]) -> int:
    value = given.get("RESOURCE_API_STORE_URL_SECONDS", "600")
    if not (_SECONDS.fullmatch(value) and 0 < int(value) <= _MAX_SECONDS):
        raise StoreSettingsError(f"RESOURCE_API_STORE_URL_SECONDS must be 1 to {_MAX_SECONDS}, not {value!r}")
    return int(value)
