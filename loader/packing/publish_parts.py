"""Sends an object to the resource API in parts, which go straight to its store if it has one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from loader.api_client import get_api_client
from loader.api_client.transport import Body
from loader.api_client.uploads import AddressRefused, Upload, UploadLost, Uploads, content_md5
from loader.errors import ApiProtocol, Checkpoint, LoaderError
from loader.patience import persist

PIECE_SIZE = 1 << 20


def send_in_parts(path: str, body: Body, patience: float) -> bool:
    """Send `body`, which is read once, and return whether the API takes it in parts.

    One part is in memory at a time. Work that the API interrupts is tried again for `patience` seconds; after any other
    error nothing of the upload stays. Raises what iterating `body` raises, and what the client of the API raises.
    """
    api, checkpoint = get_api_client().uploads(), get_api_client().checkpoint()
    attempts = partial(persist, seconds=patience, subject=f"the upload of {path}", checkpoint=checkpoint)
    upload = attempts(partial(api.start, path, len(body)))
    if upload is None:
        return False
    try:
        sent = [
            (number, attempts(partial(_send, api, upload, number, content, checkpoint)))
            for number, content in _parts(body, upload)
        ]
        attempts(partial(api.complete, upload, sent))
    except BaseException as exc:
        with suppress(LoaderError, UploadLost):
            api.abandon(upload)
        if isinstance(exc, UploadLost):
            raise ApiProtocol(f"The resource API has lost the upload of {path}.") from exc
        raise
    return True


def _parts(body: Body, upload: Upload) -> Iterator[tuple[int, bytes]]:
    """Yield the numbers and the contents of parts of the largest size."""
    begin, content = 0, bytearray()
    for piece in body:
        content += piece
        while len(content) >= upload.largest:
            yield begin // upload.smallest + 1, bytes(content[: upload.largest])
            del content[: upload.largest]
            begin += upload.largest
    if content:
        yield begin // upload.smallest + 1, bytes(content)


def _send(api: Uploads, upload: Upload, number: int, content: bytes, checkpoint: Checkpoint) -> str:
    """Send a part to a new address, because an older one may have expired. Return its ETag."""
    address = api.addresses(upload, [number]).get(number)
    if address is None:
        raise ApiProtocol("The resource API sent no address for a part of an upload.")
    body = _Content(content)
    md5 = content_md5(body) if address.wants_md5 else None
    try:
        return api.send(address, body, md5, checkpoint)
    except AddressRefused as exc:
        raise exc.error from exc


class _Content:
    """Bytes as the body of a request, in pieces, because each piece may take a limited time."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)

    def __len__(self) -> int:
        return len(self._content)

    def __iter__(self) -> Iterator[memoryview]:
        return (self._content[begin : begin + PIECE_SIZE] for begin in range(0, len(self), PIECE_SIZE))
