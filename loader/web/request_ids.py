"""Every request has an id, from its client or made here; it goes into the log, up to the API and back in the reply."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.wsgi import ClosingIterator

from loader.logs import sane_request_id, set_request_id

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HEADER = "X-Request-ID"


class RequestIds:
    """WSGI middleware. The id holds until the response is closed, since a body streams after the view has returned."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request_id = sane_request_id(environ.get("HTTP_X_REQUEST_ID"))
        set_request_id(request_id)

        def start_with_id(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, (HEADER, request_id)], exc_info)

        return ClosingIterator(self._app(environ, start_with_id), lambda: set_request_id(None))
