"""Models as their publishers sign them, and as a forger with their keys of encryption changes them."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

from loader.crypto.model_parts import HEAD_SIZE, Edition, ResourceName, SmallPart, seal_model
from loader.crypto.segments import HEADER_SIZE
from loader.crypto.signatures import SigningKey
from loader.crypto.streaming_aead import encrypt
from tests.support.publishers import ANNA

NAME = ResourceName("m", "x")
CREATED = "2026-03-0{}T12:00:00Z"


@dataclass(frozen=True)
class SignedModel:
    """One edition of a model: its plaintext and its two objects."""

    name: ResourceName
    content: bytes
    small: SmallPart
    big: bytes

    @property
    def big_path(self) -> str:
        """The path of the big object at the API."""
        assert self.small.big is not None
        return f"/resources/{self.name.big(self.small.big)}"

    @property
    def digest(self) -> str:
        """The piece digest of the big object."""
        assert self.small.big is not None
        return self.small.big.digest

    def as_objects(self) -> dict[str, bytes]:
        """Return both objects in the form of `FaultyApi.objects`: path to content."""
        return {f"/resources/{self.name.small}": self.small.to_bytes(), self.big_path: self.big}

    def resealed(self, content: bytes) -> bytes:
        """Return another big object that authenticates behind the same head, as everybody with the key can seal it.

        `content` must have the size of the plaintext and its first 64 KiB, which the head holds.
        """
        header = self.small.head[:HEADER_SIZE]
        sealed = b"".join(map(bytes, encrypt([content], self.small.key, self.name.path.encode(), header)))
        assert sealed[:HEAD_SIZE] == self.small.head
        return sealed[HEAD_SIZE:]


def signed_model(
    content: bytes, serial: int = 1, *keys: SigningKey, name: ResourceName = NAME, signed_as: ResourceName | None = None
) -> SignedModel:
    """Seal an edition of the day `serial`. Without `keys` ANNA signs it; `signed_as` is the name that is signed."""
    big = io.BytesIO()
    small = seal_model([content], name, big).described(Edition(serial, CREATED.format(serial)))
    named = small.named(signed_as or name)
    signed = replace(small, signatures=tuple(key.sign(named) for key in keys or (ANNA,)))
    return SignedModel(name, content, signed, big.getvalue())


def unsigned(model: SignedModel) -> SignedModel:
    """Return a model without its signatures."""
    return replace(model, small=replace(model.small, signatures=()))
