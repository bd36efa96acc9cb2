"""A plain HTTP server in the neighbourhood that has files of the resource API, and gets neither token nor trust."""

from __future__ import annotations

from loader.api_client.checks import genuine, successful
from loader.api_client.client import ObjectStream
from loader.api_client.transport import Transport
from loader.errors import ResourceNotFound


class Neighbour:
    """The server at `base_url`. Threads may share it."""

    def __init__(self, base_url: str, *, ca_bundle: str | None, timeouts: tuple[float, float]) -> None:
        """Make no connection yet. `timeouts` are seconds: to connect, and of silence."""
        self._transport = Transport(base_url, ca_bundle=ca_bundle, timeouts=timeouts)

    def open_file(self, path: str, begin: int) -> ObjectStream:
        """Return the file at `path` as a stream from offset `begin` on, or from an earlier one.

        The caller closes it. Raises ResourceNotFound and ApiFault.
        """
        headers = {"Range": f"bytes={begin}-"} if begin else {}
        with self._transport.deadline(lambda: None):
            response = self._transport.send("GET", f"/{path}", headers=headers, redirects=0)
            if response.status == 404:
                response.close()
                raise ResourceNotFound(f"There is no {path}.")
            return ObjectStream(genuine(successful(response, (200, 206))), lambda: None)
