"""The values of environment variables: which texts are accepted, and what they mean.

Each function takes the text of one variable and returns the value of a field of `Settings`. It raises ValueError with a
message that completes "VARIABLE ...".
"""

from __future__ import annotations

import os
import re
import ssl
import stat
from pathlib import Path
from urllib.parse import urlsplit

from loader.files import open_regular
from loader.publisher_keys import PublisherKeys
from loader.references import is_version

# More than any private key of Ed25519 in the format PEM.
MAX_KEY_FILE_SIZE = 4096


def http_url(value: str) -> str:
    """Return the base URL of a server, without a slash at its end."""
    url = urlsplit(value.strip())
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("must be an http:// or https:// address")
    if url.query or url.fragment or url.username or url.password:
        raise ValueError("must not hold credentials, a query or a fragment")
    return value.strip().rstrip("/")


def path(value: str) -> Path:
    """Return an absolute path."""
    if not value.strip():
        raise ValueError("must not be empty")
    absolute = Path(value.strip())
    if not absolute.is_absolute():
        raise ValueError("must be an absolute path")
    return absolute


def path_or_none(value: str) -> Path | None:
    """Return the path; None for empty."""
    return path(value) if value else None


def switch(value: str) -> bool:
    """Return whether the text is 1; it must be 0 or 1."""
    if value not in ("0", "1"):
        raise ValueError("must be 0 or 1")
    return value == "1"


def tag(value: str) -> str:
    """Return the tag of an image."""
    if not is_version(value):
        raise ValueError("must be an image tag")
    return value


def device_name(value: str) -> str:
    """Return the name; for empty the host name, in which what a header cannot carry becomes a hyphen."""
    name = value or re.sub(r"[^A-Za-z0-9._-]", "-", os.uname().nodename)[:128] or "unknown"
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", name):
        raise ValueError("must have 1 to 128 characters out of A-Z a-z 0-9 . _ -")
    return name


def names(value: str) -> tuple[str, ...]:
    """Return the names that commas separate."""
    return tuple(name.strip() for name in value.split(",") if name.strip())


def positive_int(value: str) -> int:
    """Return a number from 1 to 999999."""
    if not re.fullmatch(r"[0-9]{1,6}", value) or int(value) == 0:
        raise ValueError("must be a whole number from 1 to 999999")
    return int(value)


def byte_count(value: str) -> int:
    """Return a number of bytes."""
    if not re.fullmatch(r"[0-9]{1,15}", value):
        raise ValueError("must be a number of bytes")
    return int(value)


def unlock_mode(value: str) -> str:
    """Return `tar` or `stream`."""
    if value not in ("tar", "stream"):
        raise ValueError("must be tar or stream")
    return value


def bind(value: str) -> str:
    """Return an address to listen on: host and port, or `unix:` and a path."""
    if value.startswith("unix:") and len(value) > len("unix:"):
        return value
    if re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):[0-9]{1,5}", value) and int(value.rpartition(":")[2]) <= 65535:
        return value
    raise ValueError("must be host:port or unix:/path")


def level(value: str) -> str:
    """Return a level of the log in capital letters."""
    if value.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        raise ValueError("must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return value.upper()


def ca_bundle(value: str) -> str | None:
    """Return the path of a file of PEM certificates; None for empty, which means those that the system trusts."""
    if not value:
        return None
    try:
        ssl.create_default_context(cafile=value)
    except OSError as exc:
        raise ValueError("names no file of PEM certificates") from exc
    return value


def publisher_keys(value: str) -> PublisherKeys | None:
    """Return the keys in the file at this path; None for empty, which means that signatures are not asked for."""
    return PublisherKeys.read(Path(value)) if value else None


def signing_key(value: str) -> bytes | None:
    """Return the content of the file at this path, which only its owner may read; None for empty."""
    if not value:
        return None
    try:
        with os.fdopen(open_regular(Path(value), follow=True), "rb") as file:
            mode, data = stat.S_IMODE(os.fstat(file.fileno()).st_mode), file.read(MAX_KEY_FILE_SIZE + 1)
    except OSError as exc:
        raise ValueError(f"names a file that cannot be read: {exc.strerror}") from exc
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ValueError(f"names a file of mode {mode:04o}: only its owner may have access, as with mode 0600")
    if len(data) > MAX_KEY_FILE_SIZE:
        raise ValueError(f"names a file of more than {MAX_KEY_FILE_SIZE} bytes")
    return data
