"""The users of the resource API, and the tokens that they get at a login."""

import hashlib
import json
import secrets
import threading
from typing import cast

from itsdangerous import BadData, URLSafeTimedSerializer
from werkzeug.security import check_password_hash, generate_password_hash

from resource_api.data_directory import DataDirectory, DataDirectoryError

# A hash takes a core and 32 MiB for about a tenth of a second, so more at once would be no faster and only take memory.
HASHES_AT_ONCE = 2


class Users:
    """The users file. Every call reads the file, so that each worker process sees a change of users at once.

    All methods raise OSError, and DataDirectoryError if the file is damaged.
    """

    def __init__(self, data: DataDirectory) -> None:
        self._data = data

    def emails(self) -> list[str]:
        """Return all e-mail addresses in alphabetical order."""
        return sorted(self._read())

    def set_password(self, email: str, password: str) -> bool:
        """Add a user, or give an existing one a new password; return whether the user is new."""
        password_hash = generate_password_hash(password)
        with self._data.locked():
            users = self._read()
            is_new = _normal(email) not in users
            self._write({**users, _normal(email): password_hash})
        return is_new

    def remove(self, email: str) -> bool:
        """Remove a user, which makes the user's tokens invalid; return whether the user existed."""
        with self._data.locked():
            users = self._read()
            was_there = users.pop(_normal(email), None) is not None
            if was_there:
                self._write(users)
        return was_there

    def password_hash(self, email: str) -> str | None:
        """Return the stored hash, or None for an unknown user."""
        return self._read().get(_normal(email))

    def _read(self) -> dict[str, str]:
        try:
            users = json.loads(self._data.users_file.read_bytes())
        except ValueError as error:
            raise DataDirectoryError(f"{self._data.users_file} is not JSON: {error}") from error
        return cast("dict[str, str]", users)

    def _write(self, users: dict[str, str]) -> None:
        self._data.write_private(self._data.users_file, json.dumps(users, indent=1, sort_keys=True).encode() + b"\n")


class Authenticator:
    """Issues a token for correct credentials, and finds the user of a token."""

    def __init__(self, data: DataDirectory, token_seconds: int) -> None:
        self._users = Users(data)
        # Read the file once, because an operator must see at the start, not at the first login, that it is damaged.
        self._users.emails()
        self._token_seconds = token_seconds
        self._serializer = URLSafeTimedSerializer(
            data.token_secret(),
            salt="resource_api token",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )
        self._hashing = threading.BoundedSemaphore(HASHES_AT_ONCE)
        self._decoy_hash = generate_password_hash(secrets.token_hex())

    def login(self, email: str, password: str) -> str | None:
        """Return a new token, or None if the credentials are wrong.

        It also hashes the password of an unknown user, because a faster response would reveal which addresses exist.
        """
        password_hash = self._users.password_hash(email)
        with self._hashing:
            matches = check_password_hash(password_hash or self._decoy_hash, password)
        if password_hash is None or not matches:
            return None
        return self._serializer.dumps([_normal(email), _fingerprint(password_hash)])

    def user_of(self, token: str) -> str | None:
        """Return the user of a token, or None if the token is not valid.

        A token is not valid if it is forged or expired, or if the user was removed or has a new password.
        """
        try:
            email, fingerprint = self._serializer.loads(token, max_age=self._token_seconds)
        except BadData:
            return None
        password_hash = self._users.password_hash(email)
        if password_hash is None or fingerprint != _fingerprint(password_hash):
            return None
        return cast("str", email)


def _normal(email: str) -> str:
    """Return the address as it is stored and compared: in lower case, because users vary the case."""
    return email.strip().casefold()


def _fingerprint(password_hash: str) -> str:
    """Return a short hash that ties a token to a password without revealing the password."""
    return hashlib.sha256(password_hash.encode()).hexdigest()[:16]
