"""The users of the resource API, and the tokens that they get at a login."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer
from werkzeug.security import generate_password_hash

from resource_api import device_secrets
from resource_api.cached_file import CachedFile
from resource_api.data_directory import DataDirectory, DataDirectoryError
from resource_api.passwords import Passwords

# By so many seconds the clocks of two servers may differ.
CLOCK_SECONDS = 60


class Role(StrEnum):
    """What a user may do: a reader gets and lists, a publisher also puts and deletes."""

    READER = "reader"
    PUBLISHER = "publisher"


@dataclass(frozen=True)
class User:
    """One user. A disabled one can neither log in nor use a token. `password_hash` may be that of a device's secret."""

    email: str
    password_hash: str = field(repr=False)
    role: Role = Role.READER
    disabled: bool = False

    @property
    def is_device(self) -> bool:
        """Whether the user logs in with the secret of a device, and not with a password."""
        return device_secrets.is_hash_of_secret(self.password_hash)


class Users:
    """The users file. Every call looks whether it has changed, so that each worker process sees a change at once.

    All methods raise OSError, and DataDirectoryError if the file is damaged.
    """

    def __init__(self, data: DataDirectory) -> None:
        self._data = data
        self._file = CachedFile(data.users_file, _parsed)

    def all(self) -> list[User]:
        """Return all users in the alphabetical order of their addresses."""
        return [user for _, user in sorted(self._read().items())]

    def find(self, email: str) -> User | None:
        """Return the user with this address, in upper or lower case."""
        return self._read().get(_normal(email))

    def set_password(self, email: str, password: str, role: Role | None = None) -> tuple[User, bool]:
        """Add a user, or give an existing one a new password; return the user, and whether it is new.

        Without `role` a new user is a reader, and an existing one keeps its role. A disabled user is enabled again;
        its earlier tokens stay invalid, because they belong to the earlier password. Raises DataDirectoryError for a
        password in the form of a device's secret, because a login would take it for one.
        """
        if device_secrets.is_secret(password):
            raise DataDirectoryError(
                "a password must not look like the secret of a device; --device makes such secrets"
            )
        return self._set_hash(email, generate_password_hash(password), role)

    def set_secret(self, email: str, role: Role | None = None) -> tuple[User, bool, str]:
        """Do what `set_password` does, with a new secret of a device in place of a password; return the secret, too."""
        secret = device_secrets.new_secret()
        return *self._set_hash(email, device_secrets.hash_of(secret), role), secret

    def disable(self, email: str) -> bool:
        """Disable a user, which makes the user's tokens invalid; return whether the user exists."""
        with self._data.locked():
            users = self._read()
            present = users.get(_normal(email))
            if present is not None:
                self._write({**users, present.email: replace(present, disabled=True)})
        return present is not None

    def remove(self, email: str) -> bool:
        """Remove a user, which makes the user's tokens invalid; return whether the user existed."""
        with self._data.locked():
            users = self._read()
            present = users.get(_normal(email))
            if present is not None:
                self._write({address: user for address, user in users.items() if user is not present})
        return present is not None

    def _set_hash(self, email: str, password_hash: str, role: Role | None) -> tuple[User, bool]:
        with self._data.locked():
            users = self._read()
            present = users.get(_normal(email))
            role = role or (present.role if present is not None else Role.READER)
            user = User(_normal(email), password_hash, role)
            self._write({**users, user.email: user})
        return user, present is None

    def _read(self) -> Mapping[str, User]:
        try:
            return self._file.read()
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataDirectoryError(f"{self._data.users_file} is damaged: {error}") from error

    def _write(self, users: Mapping[str, User]) -> None:
        stored = {
            email: {"password": user.password_hash, "role": user.role, "disabled": user.disabled}
            for email, user in users.items()
        }
        self._data.write_private(self._data.users_file, json.dumps(stored, indent=1, sort_keys=True).encode() + b"\n")


class Authenticator:
    """Issues a token for correct credentials, and finds the user of a token."""

    def __init__(self, data: DataDirectory, token_seconds: int) -> None:
        self._users = Users(data)
        # Read the file once, because an operator must see at the start, not at the first login, that it is damaged.
        self._users.all()
        self._token_seconds = token_seconds
        self._serializer = URLSafeTimedSerializer(
            data.token_secret(),
            salt="resource_api token",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )
        self._passwords = Passwords()

    def find(self, email: str) -> User | None:
        """Return the user with this address, who need not have logged in."""
        return self._users.find(email)

    def login(self, email: str, password: str, checkpoint: Callable[[], None] = lambda: None) -> str | None:
        """Return a new token, or None if the credentials are wrong or the user is disabled.

        `checkpoint` is called after the wait for a turn, and may raise. Raises LaneFullError if too many logins wait.
        """
        user = self._users.find(email)
        matches = self._passwords.matches(user.password_hash if user is not None else None, password, checkpoint)
        if user is None or user.disabled or not matches:
            return None
        return self._serializer.dumps([user.email, _fingerprint(user.password_hash)])

    def user_of(self, token: str) -> User | None:
        """Return the user of a token as the users file has it now, or None if the token is not valid.

        A token is not valid if it is forged or expired, or if the user was removed or disabled or has a new password.
        """
        try:
            (email, fingerprint), issued = self._serializer.loads(token, return_timestamp=True)
        except BadData:
            return None
        # Compared here, because itsdangerous refuses a token of another server whose clock is ahead of this one.
        if not -CLOCK_SECONDS <= int(time.time()) - issued.timestamp() <= self._token_seconds:
            return None
        user = self._users.find(email)
        if user is None or user.disabled or fingerprint != _fingerprint(user.password_hash):
            return None
        return user

    def is_unchanged(self, user: User) -> bool:
        """Return whether the users file still has this user, with the same password and role, and not disabled."""
        return self._users.find(user.email) == user


def _parsed(content: bytes) -> Mapping[str, User]:
    """Return the users of the file by address. Raises ValueError, TypeError or KeyError if it is not a users file."""
    stored = json.loads(content)
    if not isinstance(stored, dict):
        raise TypeError("it is not an object")
    return {email: _parsed_user(email, fields) for email, fields in stored.items()}


def _parsed_user(email: str, fields: Any) -> User:
    match fields:
        case {"password": str(password_hash), "role": str(role), "disabled": bool(disabled)}:
            return User(email, password_hash, Role(role), disabled)
    raise ValueError(f"{email} lacks a password, a role or whether it is disabled")


def _normal(email: str) -> str:
    """Return the address as it is stored and compared: in lower case, because users vary the case."""
    return email.strip().casefold()


def _fingerprint(password_hash: str) -> str:
    """Return a short hash that ties a token to a password without revealing the password."""
    return hashlib.sha256(password_hash.encode()).hexdigest()[:16]
