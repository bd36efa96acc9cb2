"""Secrets that tests hand to a loader, and the search for them in everything that it has written."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

# Shorter ones would be found by chance.
MIN_SIZE = 8
# Ciphertext is large and random: what leaks, leaks at the begin.
SEARCHED_BYTES = 8 << 20

# The tests themselves put archives there; no loader writes one. To search them all costs a minute.
ARCHIVE_MAGIC = b"AZIMAGE1"

_secrets: set[bytes] = set()
_sources: list[Callable[[], set[str]]] = []


def plant(secret: str | bytes) -> None:
    """From now on no loader may write `secret`, nor its usual encodings."""
    raw = secret.encode() if isinstance(secret, str) else secret
    if len(raw) >= MIN_SIZE:
        _secrets.update({raw, raw.hex().encode(), base64.b64encode(raw), base64.urlsafe_b64encode(raw)})


def plant_from(source: Callable[[], set[str]]) -> None:
    """Like `plant`, for secrets that are known later, such as tokens."""
    _sources.append(source)


def leaks(*places: Path) -> Iterator[str]:
    """Which files at or below `places` hold a planted secret."""
    for source in _sources:
        for secret in source():
            plant(secret)
    for path in {path for place in places for path in (place.rglob("*") if place.is_dir() else [place])}:
        if path.is_file():
            with path.open("rb") as file:
                content = file.read(SEARCHED_BYTES)
            if content.startswith(ARCHIVE_MAGIC):
                continue
            yield from (f"{path} holds {secret!r}" for secret in _secrets if secret in content)
