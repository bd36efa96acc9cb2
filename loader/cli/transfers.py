"""Loads through a running loader, streamed: no model is held in memory."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from loader.cli.client import LoaderClient, json_body
from loader.errors import AnswerCut

READ_SIZE = 1 << 18


class OpenLoad:
    """A load that has started: an iterator over pieces of the plaintext, `size` bytes in all. Raises AnswerCut."""

    def __init__(self, response: http.client.HTTPResponse, size: int) -> None:
        self.size = size
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        arrived = 0
        while arrived < self.size:
            try:
                piece = self._response.read1(READ_SIZE)
            except TimeoutError as exc:
                raise AnswerCut(f"The loader fell silent after {arrived} of {self.size} bytes.") from exc
            except (OSError, http.client.HTTPException):
                piece = b""
            if not piece:
                raise AnswerCut(f"The load was cut after {arrived} of {self.size} bytes.")
            arrived += len(piece)
            yield piece


@contextmanager
def open_load(client: LoaderClient, folder: str, filename: str) -> Iterator[OpenLoad]:
    """Start to load a resource. Waits until the loader has fetched and verified the first bytes.

    Raises LoaderUnreachable and LoaderProblem.
    """
    body, headers = json_body({"filename": filename, "folder": folder})
    with client.request("POST", f"/load/{quoted(filename)}", body, headers, patient=True) as response:
        size = response.length
        if size is None or response.headers.get("Content-Type") != "application/octet-stream":
            raise client.not_a_loader()
        yield OpenLoad(response, size)


def quoted(filename: str) -> str:
    return quote(os.fsencode(filename), safe="")
