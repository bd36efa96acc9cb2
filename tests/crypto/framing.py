"""Length-prefixed JSON put together by hand, also such that must be refused."""

from __future__ import annotations

import json
from typing import Any


def framed(magic: bytes, body: bytes | dict[str, Any], announced: int | None = None) -> bytes:
    """Return `magic`, a length and a body, which need not agree."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return magic + (len(raw) if announced is None else announced).to_bytes(4, "big") + raw
