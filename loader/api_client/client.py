"""`ApiClient`: the requests to the resource API, and the login that they carry."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import IncompleteRead
from urllib.parse import quote

from loader.api_client import reasons
from loader.api_client.checks import (
    acknowledgement,
    content_range,
    genuine,
    is_problem,
    json_object,
    minimum_serial,
    successful,
)
from loader.api_client.logins import Logins
from loader.api_client.responses import Response
from loader.api_client.transport import Body, Transport
from loader.api_client.uploads import Uploads
from loader.crypto.archive_seals import FRAGMENT_MAX_SIZE, FRAGMENT_MIN_SIZE
from loader.crypto.json_header import is_size
from loader.crypto.model_parts import SMALL_MAX_SIZE
from loader.errors import (
    ApiProtocol,
    ApiUnreachable,
    Checkpoint,
    KeyMismatch,
    LoaderError,
    LoginRejected,
    NotLoggedIn,
    ResourceNotFound,
)

LOGIN_MAX_SIZE = 64 * 1024
# A hundred thousand objects with names of usual length.
LIST_MAX_SIZE = 16 * 1024 * 1024
# More digits than any size has; Python refuses to parse thousands of them.
SIZE = re.compile(r"[0-9]{1,18}")
# How stores refuse a signed address that has expired on the way.
SIGNATURE_REFUSALS = (400, 401, 403)


@dataclass(frozen=True)
class KeyFragment:
    """A key fragment of 32 to 4,096 bytes, and the smallest serial of a release that the API permits, 0 for all."""

    content: bytes = field(repr=False)
    minimum_serial: int


class ObjectStream:
    """The bytes of an object from offset `begin` on. The caller closes it.

    `total` is the size of the whole object in bytes, None if the API does not say.
    """

    def __init__(self, response: Response, checkpoint: Checkpoint) -> None:
        """Call `checkpoint` after each piece. Raises ApiProtocol if a partial response does not name its range."""
        if response.status == 200:
            length = response.headers.get("Content-Length", "")
            self.begin, self.total = 0, int(length) if SIZE.fullmatch(length) else None
        else:
            self.begin, self.total = content_range(response)
        self.close = response.close
        self._response = response
        self._checkpoint = checkpoint

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of `buffer` and return how many bytes came; 0 at the end.

        Raises ApiUnreachable, also after `forget`, because the next request then tells whether there is a new login.
        """
        count = self._response.readinto(buffer)
        try:
            self._checkpoint()
        except NotLoggedIn as exc:
            raise ApiUnreachable("The download stopped because the loader forgot its login.") from exc
        return count

    def ended_early(self) -> ApiUnreachable:
        """Return the error for a stream that ended before the end of its object, whose size only the caller knows."""
        return reasons.cut(IncompleteRead(b""), self._response.peer)


class ApiClient:
    """The loader's client of the API. Threads may share it.

    Every method that sends a request may raise ApiUnreachable, ApiError and ApiProtocol.
    """

    def __init__(
        self, base_url: str, *, ca_bundle: str | None, timeouts: tuple[float, float], device_name: str | None = None
    ) -> None:
        """Make no connection yet. `timeouts` are seconds: to connect, and of silence. The API logs `device_name`."""
        self._transport = Transport(base_url, ca_bundle=ca_bundle, timeouts=timeouts, device_name=device_name)
        self._logins = Logins(self._request_token)

    @property
    def authenticated(self) -> bool:
        """Whether a login has succeeded and its credentials have not been rejected since."""
        return self._logins.present is not None

    @property
    def user(self) -> str | None:
        """The e-mail of the login that is kept."""
        present = self._logins.present
        return present.email if present is not None else None

    @property
    def refusal(self) -> LoaderError | None:
        """Why the API has ended the last login, see `Logins.refusal`."""
        return self._logins.refusal

    @property
    def reachable(self) -> bool:
        """False for a minute after a request that got no response, unless a later one got one."""
        return self._transport.reachable

    @property
    def failure(self) -> ApiUnreachable | None:
        """Why the last request to the API itself got no response; None if it got one."""
        return self._transport.failure

    def login(self, email: str, password: str, checkpoint: Checkpoint = lambda: None) -> None:
        """Log in. After any error an earlier login is still kept.

        `checkpoint` is called once the API has accepted the credentials; if it raises, the login is not kept. Raises
        LoginRejected if the API rejects the credentials, and NotLoggedIn if `forget` was called meanwhile.
        """
        self._logins.log_in(email, password, checkpoint)

    def forget(self) -> None:
        """Drop token and credentials at once, also those of a login under way. Never waits for the API."""
        self._logins.forget()

    def checkpoint(self) -> Checkpoint:
        """Return a checkpoint for work that needs the present login: it raises NotLoggedIn after `forget`.

        A later login does not end the work. Raises NotLoggedIn if nobody has logged in.
        """
        checkpoint = self._logins.checkpoint()
        self._logins.require()
        return checkpoint

    def key_fragment(self, check: str, release: str | None = None) -> KeyFragment:
        """Return the key fragment that an archive names by its `check`, 16 hex digits.

        The API logs `release`, the version of that archive.
        A server that keeps only one fragment may ignore `check`, so the caller compares. Raises KeyMismatch if the API
        has no such fragment.
        """
        path = f"/binary-split/key-fragment?check={check}"
        headers = {"Azaion-Release": release} if release is not None else {}
        with self._transport.deadline(self._logins.checkpoint()):
            response = self._authorized(
                lambda token: self._transport.send("GET", path, token=token, headers=headers, redirects=0)
            )
            # The 404 of a proxy says nothing about the fragment, and is no problem document.
            if response.status == 404 and is_problem(response):
                response.close()
                raise KeyMismatch("The key fragment of this archive was retired at the resource API, or never added.")
            fragment = genuine(successful(response, (200,))).read_all(FRAGMENT_MAX_SIZE)
        if len(fragment) < FRAGMENT_MIN_SIZE:
            raise ApiProtocol("The resource API sent a key fragment that is too short.")
        return KeyFragment(fragment, minimum_serial(response))

    def small_object(self, path: str, max_size: int = SMALL_MAX_SIZE) -> bytes:
        """Return the whole object at `path`, which has at most `max_size` bytes. Raises ResourceNotFound."""
        with self._transport.deadline(self._logins.checkpoint()):
            return self._get(path, {}).read_all(max_size)

    def list_objects(self, prefix: str) -> dict[str, int]:
        """Return the paths of all objects that begin with `prefix`, and their sizes in bytes."""
        path = f"/resources?prefix={quote(prefix, safe='')}"
        with self._transport.deadline(self._logins.checkpoint()):
            response = self._authorized(lambda token: self._transport.send("GET", path, token=token, redirects=0))
            listed = json_object(successful(response, (200,)), LIST_MAX_SIZE).get("resources")
        if not isinstance(listed, list):
            raise ApiProtocol("The resource API sent a list of objects without the field resources.")
        return dict(map(_listed, listed))

    def open_object(self, path: str, begin: int = 0, end: int | None = None) -> ObjectStream:
        """Return the object at `path` as a stream from offset `begin` to `end`, None being its end.

        The stream begins earlier if the server ignores or aligns ranges. No If-Range is sent, because replicas disagree
        about ETags, and the caller knows the digest of the right bytes. The caller closes it. Raises ResourceNotFound.
        """
        ranged = begin > 0 or end is not None
        checkpoint = self._logins.checkpoint()
        headers = {"Range": f"bytes={begin}-{'' if end is None else end - 1}"} if ranged else {}
        with self._transport.deadline(checkpoint):
            response = self._get(path, headers, (200, 206, 416) if ranged else (200,))
            if response.status == 416:
                # The object is shorter than what is here already, so it is another version: ask for all of it.
                response.close()
                response = self._get(path, {})
        return ObjectStream(response, checkpoint)

    def put_object(self, path: str, body: Body | bytes) -> None:
        """Store `body` at `path`, as a whole or not at all. Raises Forbidden if the account may only read."""
        url_path = "/resources/" + quote(path)
        response = self._authorized(lambda token: self._transport.send("PUT", url_path, token=token, body=body))
        # The bytes of an upload may take any time, but what is read after them must not.
        with self._transport.deadline(self._logins.checkpoint()):
            acknowledgement(successful(response, (200, 201, 204))).close()

    def uploads(self) -> Uploads:
        """Return the calls of uploads in parts, for work that needs the present login. Raises NotLoggedIn."""
        return Uploads(self._transport, self._authorized, self.checkpoint())

    def delete_object(self, path: str) -> None:
        """Remove the object at `path`, if there is one. Raises Forbidden if the account may only read."""
        url_path = "/resources/" + quote(path)
        with self._transport.deadline(self._logins.checkpoint()):
            response = self._authorized(lambda token: self._transport.send("DELETE", url_path, token=token))
            acknowledgement(successful(response, (200, 204, 404))).close()

    def _get(self, path: str, headers: dict[str, str], expected: tuple[int, ...] = (200,)) -> Response:
        url_path = "/resources/" + quote(path)
        response = self._authorized(lambda token: self._transport.send("GET", url_path, token=token, headers=headers))
        if response.status == 404:
            response.close()
            raise ResourceNotFound(f"The resource API has no {path}.")
        return genuine(successful(response, expected))

    def _request_token(self, email: str, password: str, checkpoint: Checkpoint) -> str:
        with self._transport.deadline(checkpoint):
            response = self._transport.send("POST", "/login", document={"email": email, "password": password})
            if response.status == 401:
                response.close()
                raise LoginRejected("The resource API rejected the e-mail or the password.")
            token = json_object(successful(response, (200,)), LOGIN_MAX_SIZE).get("token")
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise ApiProtocol("The resource API responded to a login without a usable token.")
        return token

    def _authorized(self, send: Callable[[str], Response]) -> Response:
        """Return `send(token)`. Renew the login and send once more if the API says that the token has expired.

        A store that refuses knows nothing of the token: the API is asked once more, for another signed address.
        """
        login = self._logins.require()
        response = send(login.token)
        if response.was_redirected and response.status in SIGNATURE_REFUSALS:
            response.close()
            response = send(login.token)
        if response.status != 401 or response.was_redirected:
            return response
        response.close()
        response = send(self._logins.renewed(login).token)
        if response.status == 401 and not response.was_redirected:
            response.close()
            raise LoginRejected("The resource API rejected the token that it had just issued.")
        return response


def _listed(entry: object) -> tuple[str, int]:
    match entry:
        case {"name": str(name), "size": size} if is_size(size):
            return name, size
    raise ApiProtocol("The resource API sent a list with something that is not an object's name and size.")
