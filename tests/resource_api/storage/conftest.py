"""The same tests on every kind of storage: a data directory, and buckets of a real store."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http import HTTPStatus
from urllib.parse import urlsplit

import pytest

from resource_api.fragments import Fragments
from tests.resource_api.conftest import FRAGMENT, RESPONSE_SECONDS, Api, Reply, new_data
from tests.support.swift_store import SwiftStore

# Where the objects lie. The third kind, which only some tests need, has the small ones in the data directory.
KINDS = ("directory", "two-buckets")
ALL_KINDS = (*KINDS, "bucket-and-directory")


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftStore]:
    """Yield a store, in which each test removes what it makes."""
    with SwiftStore(tmp_path_factory.mktemp("swift")) as store:
        yield store


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Return a kind of storage."""
    return str(request.param)


@pytest.fixture(scope="module")
def api(kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Yield a server with a storage of this kind, one user and a key fragment, which the tests of a module share."""
    data = new_data(tmp_path_factory.mktemp(kind))
    Fragments(data).set(FRAGMENT)
    with ExitStack() as running:
        settings = {}
        if kind != "directory":
            store: SwiftStore = request.getfixturevalue("swift")
            running.callback(store.clear)
            settings = store.settings(small_bucket=kind == "two-buckets")
        yield running.enter_context(Api(data, **settings))


def followed(api: Api, method: str, path: str, bearer: dict[str, str], headers: dict[str, str] | None = None) -> Reply:
    """Send a request, and once more to the store, without the token, if the server redirects it."""
    reply = api.call(method, path, {**bearer, **(headers or {})})
    if reply.status != HTTPStatus.TEMPORARY_REDIRECT:
        return reply
    url = urlsplit(reply.headers["Location"])
    assert url.netloc != f"127.0.0.1:{api.port}"
    return send_to(url.netloc, method, f"{url.path}?{url.query}", headers or {})


def send_to(netloc: str, method: str, target: str, headers: dict[str, str], body: bytes | None = None) -> Reply:
    """Send one request to a store."""
    connection = http.client.HTTPConnection(netloc, timeout=RESPONSE_SECONDS)
    with closing(connection):
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
