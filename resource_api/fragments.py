"""The key fragments that archives are sealed with: several at a time, so that a new one cuts no device off."""

import base64
import hmac
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from resource_api.data_directory import DataDirectory, DataDirectoryError

# Serials are smaller, so that every JSON parser reads them exactly.
SERIAL_LIMIT = 1 << 53
FRAGMENT_BYTES = range(32, 4096 + 1)
_SERIAL = re.compile(r"[0-9]{1,16}")
CHECK_INFO = b"azaion-loader key check v1"
CHECK_BYTES = 8


@dataclass(frozen=True)
class Fragment:
    """A fragment, and when it was added, in ISO 8601. `check` is how archives name it, 16 hex digits."""

    content: bytes
    added: str

    @property
    def check(self) -> str:
        """HKDF-SHA256 without a salt (RFC 5869); a device computes the same from its archive's fragment."""
        return check_of(self.content)


def check_of(content: bytes) -> str:
    """Return the check of a fragment, see `Fragment.check`."""
    extracted = hmac.digest(b"", content, "sha256")
    return hmac.digest(extracted, CHECK_INFO + b"\1", "sha256")[:CHECK_BYTES].hex()


class Fragments:
    """The file of fragments. Every call reads it, so that each worker process sees a change at once.

    All methods raise OSError, and DataDirectoryError if the file is damaged.
    """

    def __init__(self, data: DataDirectory) -> None:
        self._data = data

    def all(self) -> list[Fragment]:
        """Return the fragments, the newest last."""
        try:
            return _parsed(json.loads(self._data.key_fragments_file.read_bytes()))
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataDirectoryError(f"{self._data.key_fragments_file} is damaged: {error}") from error

    def find(self, check: str | None) -> bytes | None:
        """Return the newest fragment, or the one with `check`; None if there is none."""
        found = [each for each in self.all() if check in (None, each.check)]
        return found[-1].content if found else None

    def add(self, content: bytes) -> str:
        """Add a fragment as the newest one, and return its check. Raises DataDirectoryError if it is there already."""
        new = _new(content)
        with self._data.locked():
            present = self.all()
            if any(each.check == new.check for each in present):
                raise DataDirectoryError(f"this key fragment is there already, as {new.check}")
            self._write([*present, new])
        return new.check

    def set(self, content: bytes, *, force: bool = False) -> str:
        """Make this the only fragment, and return its check.

        Raises DataDirectoryError if another one would be lost, unless `force` is given.
        """
        new = _new(content)
        with self._data.locked():
            lost = [each.check for each in self.all() if each.check != new.check]
            if lost and not force:
                raise DataDirectoryError(
                    f"archives of these key fragments could no longer be unlocked: {', '.join(lost)}; "
                    "`key add` keeps them, and --force removes them"
                )
            self._write([new])
        return new.check

    def retire(self, check: str) -> bool:
        """Remove the fragment with `check`; return whether it was there."""
        with self._data.locked():
            present = self.all()
            kept = [each for each in present if each.check != check]
            if len(kept) < len(present):
                self._write(kept)
        return len(kept) < len(present)

    def minimum_serial(self) -> int:
        """Return the smallest serial of a release that devices may unlock, 0 for any."""
        path = self._data.minimum_serial_file
        try:
            text = path.read_text().strip()
        except FileNotFoundError:
            return 0
        except ValueError as error:
            raise DataDirectoryError(f"{path} is damaged: {error}") from error
        if not _SERIAL.fullmatch(text) or int(text) >= SERIAL_LIMIT:
            raise DataDirectoryError(f"{path} is damaged: it is not a serial")
        return int(text)

    def set_minimum_serial(self, serial: int) -> None:
        """Refuse releases of a smaller serial than this, which is below SERIAL_LIMIT, to all devices; 0 permits all."""
        self._data.write_private(self._data.minimum_serial_file, f"{serial}\n".encode())

    def _write(self, fragments: list[Fragment]) -> None:
        stored = [
            {"check": each.check, "added": each.added, "fragment": base64.b64encode(each.content).decode()}
            for each in fragments
        ]
        self._data.write_private(self._data.key_fragments_file, json.dumps(stored, indent=1).encode() + b"\n")


def _parsed(stored: Any) -> list[Fragment]:
    if not isinstance(stored, list):
        raise TypeError("it is not a list")
    fragments = [Fragment(base64.b64decode(each["fragment"], validate=True), str(each["added"])) for each in stored]
    for fragment, each in zip(fragments, stored, strict=True):
        if len(fragment.content) not in FRAGMENT_BYTES or fragment.check != each["check"]:
            raise ValueError("a fragment is not the one that its check names")
    return fragments


def _new(content: bytes) -> Fragment:
    if len(content) not in FRAGMENT_BYTES:
        limits = f"{FRAGMENT_BYTES.start} to {FRAGMENT_BYTES.stop - 1} bytes"
        raise DataDirectoryError(f"a key fragment has {limits}, this one has {len(content)}")
    return Fragment(content, datetime.now(UTC).isoformat(timespec="seconds"))
