"""The secrets that tests give to a loader, and the search for them in everything that the loader has written."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

# Shorter secrets are not searched for, because the same bytes could occur by chance.
MIN_SIZE = 8
# The search reads only the start of a file, because the rest of a large file is random ciphertext.
SEARCHED_BYTES = 8 << 20
# The search skips archives: only the tests write them, never a loader, and to search them all takes a minute.
ARCHIVE_MAGIC = b"AZIMAGE2"

_secrets: set[bytes] = set()
_sources: list[Callable[[], set[str]]] = []


def plant(secret: str | bytes) -> None:
    """Register `secret`: from now on no loader may write it, neither plain nor in hex or base64."""
    raw = secret.encode() if isinstance(secret, str) else secret
    if len(raw) >= MIN_SIZE:
        _secrets.update({raw, raw.hex().encode(), base64.b64encode(raw), base64.urlsafe_b64encode(raw)})


def plant_from(source: Callable[[], set[str]]) -> None:
    """Register a function that returns secrets. `leaks` calls it, because tokens are known only by then."""
    _sources.append(source)


def leaks(*places: Path) -> Iterator[str]:
    """Yield a sentence for each file at or below `places` and each registered secret that it contains."""
    for source in _sources:
        for secret in source():
            plant(secret)
    for path in {path for place in places for path in (place.rglob("*") if place.is_dir() else [place])}:
        if path.is_file():
            with path.open("rb") as file:
                content = file.read(SEARCHED_BYTES)
            if content.startswith(ARCHIVE_MAGIC):
                continue
            yield from (f"{path} contains {secret!r}" for secret in _secrets if secret in content)
