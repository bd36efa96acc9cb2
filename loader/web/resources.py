"""POST /load/{filename}."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack

from flask import Blueprint, Response

from loader import api_client
from loader.crypto.model_parts import ResourceName
from loader.errors import UNEXPECTED, LoaderError
from loader.logs import Audit, failures_audited
from loader.resources import Plaintext, ResourceStore
from loader.web.bodies import check_path, json_body
from loader.web.guard import Slot, TransferSlots
from loader.web.request_schemas import LoadRequest

log = logging.getLogger(__name__)


def blueprint(store: ResourceStore, slots: TransferSlots) -> Blueprint:
    """Return the routes."""
    routes = Blueprint("resources", __name__)

    @routes.post("/load/<filename>")
    def load(filename: str) -> Response:
        """The plaintext of a resource, streamed."""
        with failures_audited("load", filename, api_client.user()) as audit, ExitStack() as on_failure:
            slot = on_failure.enter_context(slots.take())
            check_path(filename)
            body = json_body(LoadRequest(filename))
            name = ResourceName(body["folder"], filename)
            audit.file = name.path
            response = streamed(PlaintextBody(store.load(name), audit, slot))
            on_failure.pop_all()
        return response

    return routes


def streamed(body: PlaintextBody) -> Response:
    """Return the response with a plaintext."""
    response = Response(body, mimetype="application/octet-stream")
    response.content_length = body.plaintext.size
    response.set_etag(body.plaintext.model.small.identity)
    # Forbid proxies to buffer or cache the response, because plaintext must not reach their disks.
    response.headers["X-Accel-Buffering"] = "no"
    response.headers["Cache-Control"] = "no-store"
    return response


class PlaintextBody:
    """The body of a load's response. At its end it closes the resource and the slot and writes the audit line.

    A failure raises an exception. The server then cuts the connection, so that no client mistakes a part for the whole.
    """

    def __init__(self, plaintext: Plaintext, audit: Audit, slot: Slot) -> None:
        self.plaintext = plaintext
        self._audit = audit
        self._slot = slot
        self._failure: LoaderError | None = None
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self.plaintext)
        except StopIteration:
            raise
        except LoaderError as exc:
            self._failure = exc
            raise
        except Exception:
            self._failure = LoaderError(UNEXPECTED)
            log.exception("%s is cut after %d bytes", self._audit.file, self.plaintext.sent)
            raise

    def close(self) -> None:
        """Release everything; the server calls this in every case, also after the client has gone."""
        if self._closed:
            return
        self._closed = True
        self.plaintext.close()
        self._slot.close()
        self._audit.size = self.plaintext.sent
        if self._failure is not None:
            self._audit.write("cut", self._failure.code, str(self._failure))
        else:
            self._audit.write("ok" if self.plaintext.sent == self.plaintext.size else "disconnected")
