"""`ApiClient`: what the loader says to the resource API, and who it says it as."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from loader.api_client.logins import Logins
from loader.api_client.transport import Answer, Body, Transport
from loader.crypto.archive import FRAGMENT_MAX_SIZE, FRAGMENT_MIN_SIZE
from loader.crypto.model_parts import SMALL_MAX_SIZE
from loader.errors import (
    ApiError,
    ApiProtocol,
    ApiUnreachable,
    Checkpoint,
    LoginRejected,
    NotLoggedIn,
    ResourceNotFound,
)

LOGIN_MAX_SIZE = 64 * 1024


class ObjectStream:
    """An object's bytes from offset `begin` on. `total` is the size of the whole, `etag` names the version; either is
    None where the API does not say. Close it."""

    def __init__(self, answer: Answer, checkpoint: Checkpoint) -> None:
        """`checkpoint` is called after each piece. Raises ApiProtocol for a range that says nothing of itself."""
        self.etag = answer.headers.get("ETag")
        if answer.status == 200:
            length = answer.headers.get("Content-Length", "")
            self.begin, self.total = 0, int(length) if length.isdecimal() else None
        else:
            self.begin, self.total = _content_range(answer)
        self.close = answer.close
        self._answer = answer
        self._checkpoint = checkpoint

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the begin of `buffer`; 0 at the end. Raises ApiUnreachable, also when its login was forgotten: whoever
        goes on then learns whether there is another one."""
        count = self._answer.readinto(buffer)
        try:
            self._checkpoint()
        except NotLoggedIn as exc:
            raise ApiUnreachable("The transfer ended with the login that it lived by.") from exc
        return count


class ApiClient:
    """Safe to share between threads. Every method may raise ApiUnreachable, ApiError and ApiProtocol."""

    def __init__(self, base_url: str, *, ca_bundle: str | None, timeouts: tuple[float, float]) -> None:
        """No connection is made yet. `timeouts`: seconds to connect, seconds of silence."""
        self._transport = Transport(base_url, ca_bundle=ca_bundle, timeouts=timeouts)
        self._logins = Logins(self._log_in)

    @property
    def authenticated(self) -> bool:
        """Whether a login has succeeded and its credentials have not been refused since."""
        return self._logins.present is not None

    @property
    def reachable(self) -> bool:
        """False for a minute after a request that got no answer, unless another one got one since."""
        return self._transport.reachable

    def login(self, email: str, password: str, checkpoint: Checkpoint = lambda: None) -> None:
        """Log in; raises LoginRejected and keeps an earlier login if the API refuses the credentials.

        `checkpoint` may raise when the API has accepted them: nothing is kept then. Raises NotLoggedIn if `forget`
        was called meanwhile.
        """
        self._logins.begin(email, password, checkpoint)

    def forget(self) -> None:
        """Drop token and credentials at once, those of a login that is on its way as well. Never waits for the API."""
        self._logins.forget()

    def checkpoint(self) -> Checkpoint:
        """What work that lives by the present login calls now and then: it raises NotLoggedIn after `forget`.

        Raises NotLoggedIn if nobody has logged in. A later login does not end it.
        """
        checkpoint = self._logins.checkpoint()
        self._logins.require()
        return checkpoint

    def key_fragment(self) -> bytes:
        """The key fragment of the archive of images, 32 to 4,096 bytes."""
        path = "/binary-split/key-fragment"
        answer = self._authorized(lambda token: self._transport.send("GET", path, token=token, redirects=0))
        fragment = _successful(answer, (200,)).read_all(FRAGMENT_MAX_SIZE)
        if len(fragment) < FRAGMENT_MIN_SIZE:
            raise ApiProtocol("The resource API answered with a key fragment that is too short.")
        return fragment

    def small_object(self, path: str) -> bytes:
        """The whole small object at `path`; raises ResourceNotFound."""
        return self._get(path, {}).read_all(SMALL_MAX_SIZE)

    def open_object(self, path: str, begin: int = 0, end: int | None = None, etag: str | None = None) -> ObjectStream:
        """The object at `path` as a stream, which the caller closes; raises ResourceNotFound.

        It goes from `begin` to `end`, None being the last byte. It begins at 0 if the object is not of the version
        `etag` any more or ranges are not served.
        """
        ranged = begin > 0 or end is not None
        checkpoint = self._logins.checkpoint()
        headers = {"Range": f"bytes={begin}-{'' if end is None else end - 1}"} if ranged else {}
        if ranged and etag:
            headers["If-Range"] = etag
        answer = self._get(path, headers, (200, 206, 416) if ranged else (200,))
        if answer.status == 416:
            # It has become shorter than what is here already, so it is another one.
            answer.close()
            answer = self._get(path, {})
        return ObjectStream(answer, checkpoint)

    def put_object(self, path: str, body: Body | bytes) -> None:
        """Store `body` at `path`, as a whole or not at all."""
        url_path = "/resources/" + quote(path)
        answer = self._authorized(lambda token: self._transport.send("PUT", url_path, token=token, body=body))
        _successful(answer, (200, 201, 204)).close()

    def _get(self, path: str, headers: dict[str, str], expected: tuple[int, ...] = (200,)) -> Answer:
        url_path = "/resources/" + quote(path)
        answer = self._authorized(lambda token: self._transport.send("GET", url_path, token=token, headers=headers))
        if answer.status == 404:
            answer.close()
            raise ResourceNotFound(f"The resource API has no {path}.")
        return _successful(answer, expected)

    def _log_in(self, email: str, password: str) -> str:
        answer = self._transport.send("POST", "/login", json={"email": email, "password": password})
        if answer.status == 401:
            answer.close()
            raise LoginRejected("The resource API refused the e-mail or the password.")
        document = _json_object(_successful(answer, (200,)).read_all(LOGIN_MAX_SIZE))
        token = document.get("token")
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise ApiProtocol("The resource API answered a login without a usable token.")
        return token

    def _authorized(self, call: Callable[[str], Answer]) -> Answer:
        """`call(token)`, once more with a new token if the API says that the present one has expired."""
        login = self._logins.require()
        answer = call(login.token)
        if answer.status != 401:
            return answer
        answer.close()
        answer = call(self._logins.renewed(login).token)
        if answer.status == 401:
            answer.close()
            raise LoginRejected("The resource API refused the token that it had just issued.")
        return answer


def _successful(answer: Answer, expected: tuple[int, ...]) -> Answer:
    """`answer` if it has one of the `expected` statuses; else it is closed and ApiError or ApiProtocol raised."""
    if answer.status in expected:
        return answer
    answer.close()
    if answer.status >= 400:
        raise ApiError(f"The resource API answered with status {answer.status}.")
    raise ApiProtocol(f"The resource API answered with status {answer.status} where that has no meaning.")


def _content_range(answer: Answer) -> tuple[int, int | None]:
    """Begin and size of the whole (RFC 9110, section 14.4)."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if match is None:
        answer.close()
        raise ApiProtocol("The resource API answered with a range without saying which.")
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ApiProtocol("The resource API answered with something that is not a JSON object.")
    return document
