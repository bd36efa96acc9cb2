"""The session of an upload, with a fake API whose addresses expire while a part waits for the link."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from loader.api_client.uploads import Address, AddressRefused, Upload, Uploads
from loader.errors import ApiError, LoaderError
from loader.uploads.session import Link, Session

SIZE = 100
BODY = b"x" * SIZE


class Taken(LoaderError):
    """Raised while somebody else has the link."""


class ExpiringApi:
    """Refuses the first address of a part. `asked_with_link` says of each request for addresses if a part had it."""

    def __init__(self) -> None:
        self.asked_with_link: list[bool] = []
        self.sent: list[str] = []
        self._probing = False
        self.link = Link(self.checkpoint)

    def checkpoint(self) -> None:
        if self._probing:
            raise Taken("The link is taken.")

    def addresses(self, _upload: Upload, numbers: Iterable[int]) -> dict[int, Address]:
        self._probing = True
        try:
            self.link.acquire()
            self.link.release()
            self.asked_with_link.append(False)
        except Taken:
            self.asked_with_link.append(True)
        self._probing = False
        return {number: Address(f"/{len(self.asked_with_link)}", wants_md5=False) for number in numbers}

    def send(self, address: Address, body: Iterable[bytes], _md5: str | None, _ended_by: object) -> str:
        assert b"".join(map(bytes, body)) == BODY
        self.sent.append(address.url)
        if address.url == "/1":
            raise AddressRefused(ApiError("The address has expired."))
        return "etag"


def test_a_second_address_is_asked_for_once_the_part_has_the_link() -> None:
    api = ExpiringApi()
    session = Session(cast("Uploads", api), Upload("id", SIZE, SIZE), SIZE, api.link, 1.0, "an upload")
    part = session.plan.take(SIZE, whole=True)
    assert part is not None
    assert session.send(part, [BODY]) == "etag"
    assert api.sent == ["/1", "/2"]
    assert api.asked_with_link == [False, True]
    # The link is free again.
    api.link.acquire()
