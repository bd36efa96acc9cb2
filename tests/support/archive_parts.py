"""An archive taken apart and put together again, by the format's description and without its checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from loader.crypto.segments import ciphertext_size

MAGIC = b"AZIMAGE2"
DIGEST_SIZE = 32


@dataclass
class Parts:
    """All parts of an archive. A test may change any of them; `end` is what follows the last blob."""

    head: bytes
    seals: bytes
    present: list[bytes]
    blobs: list[bytes]
    end: bytes = b""
    magic: bytes = field(default=MAGIC)

    @classmethod
    def of(cls, archive: bytes) -> Parts:
        """Take an archive apart."""
        head, rest = _sized(archive[len(MAGIC) :])
        seals, rest = _sized(rest)
        digests, rest = _sized(rest)
        present = [digests[begin : begin + DIGEST_SIZE] for begin in range(0, len(digests), DIGEST_SIZE)]
        blobs = []
        for blob in json.loads(head)["blobs"]:
            if bytes.fromhex(blob["stored"]) not in present:
                continue
            size = ciphertext_size(blob["packed"]["size"])
            blobs.append(rest[:size])
            rest = rest[size:]
        return cls(head, seals, present, blobs, rest)

    def joined(self) -> bytes:
        """Put the archive together."""
        return b"".join(piece for _, piece in self.pieces())

    def pieces(self) -> Iterator[tuple[str, bytes]]:
        """Yield each part with its name, in the order of the file."""
        present = b"".join(self.present)
        yield "magic", self.magic
        for name, part in (("head", self.head), ("seals", self.seals), ("present", present)):
            yield f"size of {name}", len(part).to_bytes(4, "big")
            yield name, part
        for number, blob in enumerate(self.blobs):
            yield f"blob {number}", blob
        yield "end", self.end

    def boundaries(self) -> Iterator[int]:
        """Yield where each part starts, in bytes."""
        position = 0
        for _, piece in self.pieces():
            yield position
            position += len(piece)

    def edit_head(self, **fields: Any) -> None:
        """Replace fields of the head."""
        self.head = _json(json.loads(self.head) | fields)

    def edit_seals(self, **fields: Any) -> None:
        """Replace fields of the seals."""
        self.seals = _json(json.loads(self.seals) | fields)


def _sized(data: bytes) -> tuple[bytes, bytes]:
    """Return what the length at the start of `data` announces, and what follows it."""
    end = 4 + int.from_bytes(data[:4], "big")
    return data[4:end], data[end:]


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
