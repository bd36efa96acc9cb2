"""The authorization matrix: each token with each method and each path, and the status that it gets.

Methods that a path does not list are refused with 405, and unknown paths with 404, whatever the token is, because they
do nothing for anybody.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest

from loader.crypto.archive_seals import key_check
from resource_api.accounts import Role
from tests.resource_api.conftest import FRAGMENT, PASSWORD, Api
from tests.resource_api.tokens import READERS, REFUSED, WRITERS, Headers, all_tokens

DIGEST = "0f" * 32
SMALL, BIG = "models/day/x.small", f"models/day/x.{DIGEST}.big"
HEAD, BLOB = "images/1.4.head", f"images/{DIGEST}.blob"
KEY = "/binary-split/key-fragment"
LOGIN = json.dumps({"email": "reader@example.com", "password": PASSWORD}).encode()
METHODS = ("GET", "HEAD", "PUT", "DELETE", "POST", "PATCH", "OPTIONS", "TRACE", "BREW")

# For each path and method the status for a token that is not valid, for that of a reader, and for that of a publisher.
OPEN, UNKNOWN = (200, 200, 200), (404, 404, 404)
READ, ABSENT, MALFORMED = (401, 200, 200), (401, 404, 404), (401, 400, 400)
PUBLISHED = (401, 403, 404)
UPLOAD = f"/uploads/{'0' * 32}"
OBJECT = {"GET": READ, "HEAD": READ, "PUT": (401, 403, 204), "DELETE": (401, 403, 204)}
EXPECTED: dict[str, dict[str, tuple[int, int, int]]] = {
    "/login": {"POST": OPEN},
    KEY: {"GET": READ, "HEAD": READ},
    f"{KEY}?check={key_check(FRAGMENT)}": {"GET": READ, "HEAD": READ},
    f"{KEY}?check={'0' * 16}": {"GET": ABSENT, "HEAD": ABSENT},
    f"{KEY}?check=odd": {"GET": MALFORMED, "HEAD": MALFORMED},
    "/resources": {"GET": READ, "HEAD": READ},
    "//resources?prefix=models/": {"GET": READ, "HEAD": READ},
    **{f"/resources/{name}": OBJECT for name in (SMALL, BIG, HEAD, BLOB)},
    # Bodies of a wrong type, because what these do with the right ones is the subject of test_resumable_uploads.py.
    "/uploads": {"POST": (401, 403, 415)},
    UPLOAD: {"GET": PUBLISHED, "HEAD": PUBLISHED, "DELETE": PUBLISHED},
    f"{UPLOAD}/urls": {"POST": PUBLISHED},
    f"{UPLOAD}/complete": {"POST": PUBLISHED},
    f"{UPLOAD}/parts/1": {"PUT": PUBLISHED},
    "/resources/models/absent": {"GET": ABSENT, "HEAD": ABSENT, "PUT": (401, 403, 201), "DELETE": (401, 403, 404)},
    "/resources/models/day": {"GET": ABSENT, "HEAD": ABSENT, "PUT": (401, 403, 409), "DELETE": (401, 403, 404)},
    "/resources/%2e%2e/users.json": {
        "GET": MALFORMED,
        "HEAD": MALFORMED,
        "PUT": (401, 403, 400),
        "DELETE": (401, 403, 400),
    },
    **{path: dict.fromkeys(METHODS, UNKNOWN) for path in ("/unknown", "/resources/")},
}
CELLS = [(path, method) for path in EXPECTED for method in METHODS]


@pytest.fixture(scope="module")
def tokens(api: Api) -> dict[str, Headers]:
    """The headers of each kind of token, by its name."""
    return all_tokens(api)


@pytest.fixture
def restore(api: Api) -> Callable[[], dict[str, bytes]]:
    """A function that makes the objects of the matrix all that is stored, and returns them."""

    def restored() -> dict[str, bytes]:
        shutil.rmtree(api.data.resources)
        for name in (SMALL, BIG, HEAD, BLOB):
            path = api.data.resources / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        return api.stored()

    return restored


def expected(path: str, method: str) -> tuple[int, int, int]:
    # Flask responds to OPTIONS with the methods of a path.
    return EXPECTED[path].get(method, (200, 200, 200) if method == "OPTIONS" else (405, 405, 405))


@pytest.mark.parametrize(("path", "method"), CELLS, ids=lambda value: value.replace(DIGEST, "digest"))
def test_each_token_gets_what_the_matrix_says(
    api: Api, tokens: dict[str, Headers], restore: Callable[[], dict[str, bytes]], path: str, method: str
) -> None:
    stored = restore()
    body, kind = (LOGIN, "application/json") if path == "/login" else (b"other", "application/octet-stream")
    for column, names in enumerate((REFUSED, READERS, WRITERS)):
        for name in names:
            sent = body if method in ("PUT", "POST", "PATCH") else None
            reply = api.call(method, path, {**tokens[name], "Content-Type": kind}, sent)
            status = expected(path, method)[column]
            assert reply.status == status, name
            if status >= 400 and method != "HEAD":
                reply.problem()
            assert ("WWW-Authenticate" in reply.headers) is (status == 401)
            changes = status in (201, 204)
            if method in ("PUT", "DELETE"):
                assert (api.stored() != stored) is changes, name
            if changes:
                restore()
    assert api.stored() == stored


def test_every_kind_of_token_is_in_one_column(tokens: dict[str, Headers]) -> None:
    assert sorted((*REFUSED, *READERS, *WRITERS)) == sorted(tokens)


def test_a_refusal_of_a_reader_names_the_role_and_the_code(api: Api, tokens: dict[str, Headers]) -> None:
    for method in ("PUT", "DELETE"):
        problem = api.call(method, f"/resources/{SMALL}", tokens["a reader's"]).problem()
        assert problem["code"] == "FORBIDDEN"
        assert Role.PUBLISHER in str(problem["hint"])


def test_what_a_path_allows_is_in_the_matrix(api: Api) -> None:
    """A method that a path gets later must get its cells."""
    for path, methods in EXPECTED.items():
        allowed = api.call("OPTIONS", path).headers["Allow"]
        known = set() if UNKNOWN in methods.values() else {*methods, "OPTIONS"}
        assert set((allowed or "").split(", ")) - {""} == known, path
