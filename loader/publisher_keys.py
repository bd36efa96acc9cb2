"""The file that PUBLISHER_KEYS names: the Ed25519 public keys of the publishers whose releases a device accepts.

    NAME BASE64 [YYYY-MM-DD]

One line a key; blank lines and lines that start with # say nothing. The date is for people: it says when the line
should have gone, and an expired key still counts, because the clock of a device may be wrong.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from loader.files import open_regular

PUBLIC_KEY_SIZE = 32
MAX_FILE_SIZE = 64 << 10

# The curve edwards25519: -x^2 + y^2 = 1 + d x^2 y^2 modulo p (RFC 8032, section 5.1).
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_SIGN = 1 << 255
# The y of two of the four points of order 8; that of the others is its negative.
_Y_OF_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
# The y of every point whose order divides 8. Under such a key one signature fits many messages.
_SMALL_ORDER = frozenset({0, 1, _P - 1, _Y_OF_ORDER_8, _P - _Y_OF_ORDER_8})


def require_sound(key: bytes) -> None:
    """Raise ValueError unless `key` is the one encoding of a point on the curve whose order is not small.

    Its text completes "line 3 ...".
    """
    y = int.from_bytes(key, "little") & ~_SIGN
    if len(key) != PUBLIC_KEY_SIZE or y >= _P:
        raise ValueError("has a key that is not canonical")
    if y in _SMALL_ORDER:
        raise ValueError("has a key of small order")
    x_squared = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    if pow(x_squared, (_P - 1) // 2, _P) != 1:
        raise ValueError("has a key that is no point of the curve")


@dataclass(frozen=True)
class PublisherKey:
    """One line: the raw public key of 32 bytes, and what people call its owner."""

    name: str
    key: bytes
    expires: date | None = None

    @classmethod
    def parse(cls, line: str) -> PublisherKey:
        """Parse a line that says something. Raises ValueError with what completes "line 3 ..."."""
        name, *rest = line.split()
        if not 1 <= len(rest) <= 2 or not name.isprintable():
            raise ValueError("is not NAME BASE64 [YYYY-MM-DD]")
        key = _key(rest[0])
        require_sound(key)
        return cls(name, key, _date(rest[1]) if len(rest) == 2 else None)

    def __str__(self) -> str:
        """Return the line."""
        expires = [] if self.expires is None else [self.expires.isoformat()]
        return " ".join((self.name, key_text(self.key), *expires))


@dataclass(frozen=True)
class PublisherKeys:
    """All keys of a file, each once: of two lines with one key the first counts."""

    keys: tuple[PublisherKey, ...]

    @classmethod
    def read(cls, path: Path) -> PublisherKeys:
        """Read the file at `path`. Raises ValueError with what completes "PUBLISHER_KEYS ..."."""
        try:
            # Follow a link, because operators keep their configuration elsewhere and link to it.
            with os.fdopen(open_regular(path, follow=True), "rb") as file:
                data = file.read(MAX_FILE_SIZE + 1)
        except OSError as exc:
            raise ValueError(f"names a file that cannot be read: {exc.strerror}") from exc
        if len(data) > MAX_FILE_SIZE:
            raise ValueError(f"names a file of more than {MAX_FILE_SIZE} bytes")
        try:
            # Tools of Windows begin a file with a byte order mark.
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            raise ValueError("names a file that is not UTF-8") from exc
        return cls.parse(text)

    @classmethod
    def parse(cls, text: str) -> PublisherKeys:
        """Parse the text of a file. Raises ValueError as `read` does, also if there is no key in it."""
        found: dict[bytes, PublisherKey] = {}
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                try:
                    one = PublisherKey.parse(line)
                except ValueError as exc:
                    raise ValueError(f"names a file whose line {number} {exc}") from exc
                found.setdefault(one.key, one)
        if not found:
            raise ValueError("names a file without a key")
        return cls(tuple(found.values()))

    def find(self, key: bytes) -> PublisherKey | None:
        """Return the line with this raw public key."""
        return next((one for one in self.keys if one.key == key), None)

    def warnings(self) -> Iterator[str]:
        """Yield a sentence about each key that had expired by yesterday, in UTC."""
        today = datetime.now(UTC).date()
        for one in self.keys:
            if one.expires is not None and one.expires < today:
                yield f"PUBLISHER_KEYS: the key of {one.name} expired on {one.expires}, but counts while it is listed."


def key_text(key: bytes) -> str:
    """Return a raw public key as a line has it."""
    return base64.b64encode(key).decode()


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ValueError("has a key that is not base64") from exc
    # Compare the encoded form, because spare bits of base64 must be zero (RFC 4648, section 3.5): one key, one form.
    if len(key) != PUBLIC_KEY_SIZE or key_text(key) != text:
        raise ValueError(f"has a key that is not base64 of {PUBLIC_KEY_SIZE} bytes")
    return key


def _date(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    # Python reads other forms of ISO 8601 too.
    if found is None or found.isoformat() != text:
        raise ValueError("has a date that is not YYYY-MM-DD")
    return found
