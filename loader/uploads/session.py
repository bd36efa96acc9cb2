"""One upload as the API knows it: addresses of its parts, and what has arrived of them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Self, TypeVar

from loader.api_client.transport import Body
from loader.api_client.uploads import Address, AddressRefused, StoredPart, Upload, Uploads, content_md5
from loader.errors import ApiProtocol, Checkpoint
from loader.patience import persist
from loader.uploads.parts import Part, PartPlan

T = TypeVar("T")

# Addresses that are asked for in one request.
ADDRESSES = 16
CHECK_SECONDS = 0.5


class Link:
    """The way to the API. One part at a time has it, because a cut would cost both of two parts that share it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Call `checkpoint` while somebody waits, and before each piece that is sent."""
        self.checkpoint = checkpoint
        self._taken = threading.Lock()

    def acquire(self) -> None:
        """Wait for the link. Raises what the checkpoint raises."""
        while not self._taken.acquire(timeout=CHECK_SECONDS):
            self.checkpoint()

    def release(self) -> None:
        """Let another part have it."""
        self._taken.release()


class Session:
    """An upload that was started. Threads may share it; `plan` needs a lock of theirs."""

    def __init__(self, api: Uploads, upload: Upload, size: int, link: Link, patience: float, label: str) -> None:
        """Take an upload of `size` bytes.

        Calls that the API interrupts are tried again for `patience` seconds. `label` stands in the log.
        """
        self.plan = PartPlan(upload.smallest, upload.largest)
        self._last_number = -(-size // upload.smallest)
        self._api = api
        self._upload = upload
        self._link = link
        self._patience = patience
        self._label = label
        self._addresses: dict[int, Address] = {}
        self._addressing = threading.Lock()

    def send(self, part: Part, body: Body) -> str:
        """Send a part once, and return its ETag. If its address is refused, ask for another and send once more.

        Raises UploadLost and ApiFault.
        """
        with suppress(AddressRefused):
            return self._send_to(self._address(part), body)
        # Ask once the part has the link, because an address may expire while another part is sent.
        with _Turn(self._link, body) as turn:
            with self._addressing:
                self._addresses.clear()
            address = self._address(part)
            md5 = content_md5(body) if address.wants_md5 else None
            try:
                return self._api.send(address, turn, md5, self._link.checkpoint)
            except AddressRefused as exc:
                raise exc.error from exc

    def arrived(self, part: Part) -> str | None:
        """Return the ETag of a part whose response did not come; None if the API does not have it."""
        there = self._persist(functools.partial(self._api.parts, self._upload)).get(part.number)
        return there.etag if there is not None and there.size == part.size else None

    def strangers(self, parts: list[tuple[Part, str]]) -> list[Part]:
        """Return those of `parts` that the API does not have with this size and this ETag."""
        there = self._persist(functools.partial(self._api.parts, self._upload))
        return [part for part, etag in parts if not _is_same(there.get(part.number), part, etag)]

    def complete(self, parts: list[tuple[Part, str]]) -> None:
        """Make the object of these parts. Raises PartsRefused and UploadLost."""
        numbered = [(part.number, etag) for part, etag in parts]
        self._persist(functools.partial(self._api.complete, self._upload, numbered))

    def abandon(self) -> None:
        """Let the API remove it. Raises what a single attempt raises."""
        self._api.abandon(self._upload)

    def _send_to(self, address: Address, body: Body) -> str:
        # Before it has the link, so that the other part is sent meanwhile.
        md5 = content_md5(body) if address.wants_md5 else None
        with _Turn(self._link, body) as turn:
            return self._api.send(address, turn, md5, self._link.checkpoint)

    def _address(self, part: Part) -> Address:
        with self._addressing:
            if part.number not in self._addresses:
                wanted = [n for n in self.plan.next_numbers(part, ADDRESSES) if n <= self._last_number]
                self._addresses = self._persist(functools.partial(self._api.addresses, self._upload, wanted))
            if part.number not in self._addresses:
                raise ApiProtocol("The resource API sent no address for a part of an upload.")
            # Each is used once: an address that was used before may have expired since.
            return self._addresses.pop(part.number)

    def _persist(self, call: Callable[[], T]) -> T:
        return persist(call, self._patience, self._label, self._link.checkpoint)


def _is_same(there: StoredPart | None, part: Part, etag: str) -> bool:
    return there is not None and (there.size, there.etag.strip('"')) == (part.size, etag.strip('"'))


class _Turn:
    """A body that has the link until its last byte was sent. It gives the link back at the end of its block too."""

    def __init__(self, link: Link, body: Body) -> None:
        self._link = link
        self._body = body
        self._held = False

    def __enter__(self) -> Self:
        self._link.acquire()
        self._held = True
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()

    def __len__(self) -> int:
        return len(self._body)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        yield from self._body
        # The other part is sent while this one waits for its response.
        self._give_back()

    def _give_back(self) -> None:
        if self._held:
            self._held = False
            self._link.release()
