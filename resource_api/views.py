"""The views: log in, get the key fragment, list, read, write and delete objects."""

import re
from collections.abc import Iterator
from http import HTTPStatus

from flask import Response, g, jsonify, request
from werkzeug.exceptions import BadRequest, HTTPException, LengthRequired, NotFound, Unauthorized

from resource_api.accounts import Authenticator, Role, User
from resource_api.bodies import body_pieces, json_body
from resource_api.conditional import conditional_response
from resource_api.connection import require_client
from resource_api.data_directory import DataDirectory
from resource_api.fragments import Fragments, check_of
from resource_api.problems import NotPublisherError
from resource_api.storage.interface import Storage

LOGIN_BYTES = 16 << 10
# For the whole body, because a byte now and then must not hold a thread forever.
LOGIN_SECONDS = 10
_CHECK = re.compile(r"[0-9a-f]{16}")


class Views:
    """The view functions, and the objects that they use."""

    def __init__(self, data: DataDirectory, authenticator: Authenticator, storage: Storage) -> None:
        self._fragments = Fragments(data)
        # Read both files once, because an operator must see at the start, not at the first unlock, that one is damaged.
        self._fragments.all()
        self._fragments.minimum_serial()
        self._authenticator = authenticator
        self._storage = storage

    def login(self) -> Response:
        """Handle POST /login.

        Raises BadRequest, UnsupportedMediaType, RequestEntityTooLarge, Unauthorized, ClientDisconnected or
        LaneFullError.
        """
        email, password = _credentials()
        g.user = self._authenticator.find(email)
        token = self._authenticator.login(email, password, require_client)
        if token is None:
            # For the log only, because the response must not tell which accounts exist.
            g.reason = _refusal(g.user)
            raise Unauthorized("The e-mail address or the password is wrong.")
        return _without_caching(jsonify(token=token))

    def key_fragment(self) -> Response:
        """Handle GET /binary-split/key-fragment, the newest or the one that `check` names.

        Raises Unauthorized, BadRequest or NotFound.
        """
        self._require_token()
        check = request.args.get("check")
        if check is not None and not _CHECK.fullmatch(check):
            raise BadRequest("The check of a key fragment has 16 hexadecimal digits in lower case.")
        fragment = self._fragments.find(check)
        if fragment is None:
            g.check = check
            raise NotFound("This server has no such key fragment.")
        g.check = check or check_of(fragment)
        response = _without_caching(Response(fragment, content_type="application/octet-stream"))
        if minimum := self._fragments.minimum_serial():
            response.headers["Azaion-Minimum-Serial"] = str(minimum)
        return response

    def list_resources(self) -> Response:
        """Handle GET /resources, with the names that begin with `prefix`. Raises Unauthorized."""
        self._require_token()
        listed = self._storage.find(request.args.get("prefix", ""))
        response = jsonify(resources=[{"name": each.name, "size": each.size} for each in listed])
        response.cache_control.no_cache = True
        return response

    def read_resource(self, name: str) -> Response:
        """Handle GET and HEAD /resources/{name}, with ranges and conditions.

        A GET is redirected to the store if that sends the object, and a HEAD never, because a presigned URL is for one
        method. Raises Unauthorized, RequestedRangeNotSatisfiable, PreconditionFailed, or an error of `Storage.open`.
        """
        self._require_token()
        address = self._storage.address(name) if request.method == "GET" else None
        if address is not None:
            return _without_caching(Response(status=HTTPStatus.TEMPORARY_REDIRECT, headers={"Location": address}))
        resource = self._storage.open(name)
        try:
            return conditional_response(resource)
        except HTTPException:
            resource.file.close()
            raise

    def write_resource(self, name: str) -> Response:
        """Handle PUT /resources/{name}.

        Raises Unauthorized, NotPublisherError, LengthRequired, BadRequest, RequestTimeout, or an error of
        `Storage.put`.
        """
        user = self.require_publisher()
        size = request.content_length
        if size is None:
            raise LengthRequired("An upload needs a Content-Length.")
        if "Content-Range" in request.headers:
            raise BadRequest("Objects are uploaded whole, not in ranges.")
        is_new = self._storage.put(name, size, self.pieces_of(user, size))
        return Response(status=201 if is_new else 204)

    def delete_resource(self, name: str) -> Response:
        """Handle DELETE /resources/{name}.

        Raises Unauthorized, NotPublisherError, or an error of `Storage.delete`.
        """
        self.require_publisher()
        self._storage.delete(name)
        return Response(status=204)

    def pieces_of(self, user: User, size: int) -> Iterator[bytes]:
        """Yield the request body. Raises what `body_pieces` raises, and Unauthorized."""
        yield from body_pieces(size)
        # A user who was disabled during an upload must not replace what the fleet runs. A token that has expired since
        # is no reason to refuse it, because the loader would send everything again.
        if not self._authenticator.is_unchanged(user):
            raise Unauthorized("The account was changed during the upload.")

    def require_publisher(self) -> User:
        """Return the user, and set `g.user`, like `_require_token`. Raises Unauthorized and NotPublisherError."""
        user = self._require_token()
        if user.role is not Role.PUBLISHER:
            raise NotPublisherError
        return user

    def _require_token(self) -> User:
        """Return the user of the request's token, and set `g.user` to it. Raises Unauthorized."""
        authorization = request.authorization
        if authorization is None or authorization.type != "bearer" or not authorization.token:
            raise Unauthorized("This needs a bearer token from /login.")
        user = self._authenticator.user_of(authorization.token)
        if user is None:
            raise Unauthorized("The token is not valid, or no longer.")
        g.user = user
        return user


def _credentials() -> tuple[str, str]:
    """Return the e-mail address and the password of a login body.

    Raises BadRequest, UnsupportedMediaType, or RequestEntityTooLarge if the body exceeds LOGIN_BYTES.
    """
    match json_body(LOGIN_BYTES, LOGIN_SECONDS):
        case {"email": str(email), "password": str(password)} if _is_text(email) and _is_text(password):
            return email, password
    raise BadRequest('The body has to be an object with the strings "email" and "password".')


def _refusal(user: User | None) -> str:
    """Return why the login of `user` was refused."""
    if user is None:
        return "There is no such account."
    return "The account is disabled." if user.disabled else "The password is wrong."


def _is_text(value: str) -> bool:
    """Return whether UTF-8 can encode `value`; it cannot encode lone surrogates, which JSON can contain."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_caching(response: Response) -> Response:
    """Return `response` with a header that forbids caches to store it, because it contains a secret."""
    response.cache_control.no_store = True
    return response
