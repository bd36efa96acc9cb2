"""Every kind of token that a request may have, valid and not."""

from __future__ import annotations

import json
import time
from functools import partial

import pytest
from werkzeug.security import generate_password_hash

from resource_api.accounts import Authenticator, Role, Users
from resource_api.data_directory import DataDirectory
from tests.resource_api.conftest import EMAIL, PASSWORD, Api

Headers = dict[str, str]
CHEAP = "scrypt:1024:8:1"

REFUSED = (
    *("none", "an empty one", "no bearer", "garbage", "a cut one", "a longer one"),
    *("an expired one", "of another server", "of a wrong fingerprint", "of an unknown user"),
    *("a disabled user's", "of a user who was disabled and enabled again", "a removed user's"),
    *("of a user who was removed and added again", "from before a new password", "from before a new role"),
)
READERS = ("a reader's", "of a publisher whom the file now calls a reader")
WRITERS = ("a publisher's", "a publisher's, in lower case", "of a reader whom the file now calls a publisher")


def all_tokens(api: Api) -> dict[str, Headers]:
    """Return the headers of each kind. The users of those that were changed since stay in the state of the name."""
    with pytest.MonkeyPatch.context() as patch:
        # The passwords of these users are hashed at little cost, because there are many.
        patch.setattr("resource_api.accounts.generate_password_hash", partial(generate_password_hash, method=CHEAP))
        return _all_tokens(api)


def _all_tokens(api: Api) -> dict[str, Headers]:
    bearer = api.bearer()
    token = bearer["Authorization"].removeprefix("Bearer ")
    own = Authenticator(api.data, 60)._serializer
    return {
        "none": {},
        "an empty one": _bearer(""),
        "no bearer": {"Authorization": f"Basic {token}"},
        "garbage": _bearer("garbage"),
        "a cut one": _bearer(token[:-4]),
        "a longer one": _bearer(f"{token}.{token}"),
        "an expired one": _bearer(_old_token(api.data)),
        "of another server": _bearer(_token_of_another_server(api.data)),
        "of a wrong fingerprint": _bearer(str(own.dumps([EMAIL, "f" * 16]))),
        "of an unknown user": _bearer(str(own.dumps(["nobody@example.com", "f" * 16]))),
        **_of_changed_users(api),
        **_of_changed_roles(api),
        "a publisher's": bearer,
        "a publisher's, in lower case": {"Authorization": f"bearer {token}"},
    }


def _of_changed_users(api: Api) -> dict[str, Headers]:
    users, found = Users(api.data), {}

    def publisher(name: str, what: str) -> str:
        email = f"{name}@example.com"
        users.set_password(email, PASSWORD, Role.PUBLISHER)
        found[what] = api.bearer(email)
        return email

    users.disable(publisher("disabled", "a disabled user's"))
    enabled = publisher("enabled", "of a user who was disabled and enabled again")
    users.disable(enabled)
    users.set_password(enabled, PASSWORD)
    users.remove(publisher("removed", "a removed user's"))
    again = publisher("again", "of a user who was removed and added again")
    users.remove(again)
    users.set_password(again, PASSWORD, Role.PUBLISHER)
    users.set_password(publisher("changed", "from before a new password"), f"{PASSWORD}!")
    users.set_password(publisher("demoted", "from before a new role"), PASSWORD, Role.READER)
    return found


def _of_changed_roles(api: Api) -> dict[str, Headers]:
    """Return tokens of readers, and those whose users the operator gave another role in the file alone."""
    users = Users(api.data)
    for name, role in (("reader", Role.READER), ("lower", Role.PUBLISHER), ("raise", Role.READER)):
        users.set_password(f"{name}@example.com", PASSWORD, role)
    found = {name: api.bearer(f"{name}@example.com") for name in ("reader", "lower", "raise")}
    stored = json.loads(api.data.users_file.read_bytes())
    stored["lower@example.com"]["role"], stored["raise@example.com"]["role"] = Role.READER, Role.PUBLISHER
    api.data.write_private(api.data.users_file, json.dumps(stored).encode())
    return {
        "a reader's": found["reader"],
        "of a publisher whom the file now calls a reader": found["lower"],
        "of a reader whom the file now calls a publisher": found["raise"],
    }


def _bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


def _old_token(data: DataDirectory) -> str:
    """Return a token that was valid a day ago."""
    with pytest.MonkeyPatch.context() as patch:
        now = time.time()
        patch.setattr("itsdangerous.timed.time.time", lambda: now - 86_400)
        return _token(data)


def _token_of_another_server(data: DataDirectory) -> str:
    """Return a token for the same user with the same password, made with another secret."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DataDirectory, "token_secret", lambda _: bytes(32))
        return _token(data)


def _token(data: DataDirectory) -> str:
    token = Authenticator(data, 60).login(EMAIL, PASSWORD)
    assert token is not None
    return token
