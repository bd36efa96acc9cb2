"""The list of objects, and their removal."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from urllib.parse import quote

import pytest

from tests.resource_api.conftest import Api
from tests.resource_api.storage.conftest import followed
from tests.support.processes import poll
from tests.support.procfs import open_descriptors

OBJECTS = {
    "a": b"",
    "models/day/x.small": b"12",
    "models/day/x.big": b"123",
    "models/night/y": b"1",
    "models-2/z": b"1",
}
NOTHING = ("none", "models/day/x.smaller", "..", "../", "/", "../users", "\0", "*", "a" * 3000)


@pytest.fixture(autouse=True)
def stored(api: Api, bearer: dict[str, str]) -> None:
    """Store OBJECTS and nothing else."""
    there, wanted = set(listed(api, bearer)), {(name, len(content)) for name, content in OBJECTS.items()}
    for name, _ in there - wanted:
        assert api.call("DELETE", f"/resources/{name}", bearer).status == 204
    for name, _ in wanted - there:
        assert api.call("PUT", f"/resources/{name}", bearer, OBJECTS[name]).status in (201, 204)


def listed(api: Api, bearer: dict[str, str], query: str = "") -> list[tuple[str, int]]:
    reply = api.call("GET", f"/resources{query}", bearer)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    assert reply.headers["Cache-Control"] == "no-cache"
    document = json.loads(reply.body)
    assert list(document) == ["resources"]
    return [(each["name"], each["size"]) for each in document["resources"]]


def test_all_objects_are_listed_with_their_sizes_in_order(api: Api, bearer: dict[str, str]) -> None:
    expected = sorted((name, len(content)) for name, content in OBJECTS.items())
    assert listed(api, bearer) == listed(api, bearer, "?prefix=") == expected


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("models/", ["models/day/x.big", "models/day/x.small", "models/night/y"]),
        ("models", ["models-2/z", "models/day/x.big", "models/day/x.small", "models/night/y"]),
        ("models/day/x.s", ["models/day/x.small"]),
        ("models/day/x.small", ["models/day/x.small"]),
        *((prefix, []) for prefix in NOTHING),
    ],
)
def test_a_prefix_selects_by_the_whole_name(api: Api, bearer: dict[str, str], prefix: str, names: list[str]) -> None:
    assert [name for name, _ in listed(api, bearer, f"?prefix={quote(prefix, safe='')}")] == names


def test_more_objects_than_a_page_are_listed_in_order(api: Api, bearer: dict[str, str]) -> None:
    """The store of the tests lists 20 objects in a page."""
    names = [f"many/{number}.{suffix}" for number in range(25) for suffix in ("big", "small")]
    for name in names:
        api.call("PUT", f"/resources/{name}", bearer, b"")
    assert [name for name, _ in listed(api, bearer, "?prefix=many/")] == sorted(names)


def test_a_deleted_object_is_gone_and_the_others_stay(api: Api, bearer: dict[str, str]) -> None:
    reply = api.call("DELETE", "/resources/models/day/x.big", bearer)
    assert (reply.status, reply.body) == (204, b"")
    assert "models/day/x.big" not in dict(listed(api, bearer))
    assert len(listed(api, bearer)) == len(OBJECTS) - 1
    for method in ("GET", "DELETE"):
        again = followed(api, method, "/resources/models/day/x.big", bearer)
        assert again.status == 404
    assert api.call("PUT", "/resources/models/day/x.big", bearer, b"new").status == 201


@pytest.mark.parametrize("path", ["models", "models/day", "a/b", "models/day/x.big/y"])
def test_a_folder_is_no_object_that_can_be_deleted(api: Api, bearer: dict[str, str], path: str) -> None:
    before = api.stored()
    reply = api.call("DELETE", f"/resources/{path}", bearer)
    assert reply.status == 404
    reply.problem()
    assert api.stored() == before


def test_lists_and_deletions_leave_no_file_open(api: Api, bearer: dict[str, str]) -> None:
    for _ in range(5):
        listed(api, bearer)
        api.call("DELETE", "/resources/a", bearer)
        api.call("PUT", "/resources/a", bearer, b"")
    root = str(api.data.root)
    poll(lambda: not [path for path in open_descriptors(api.worker()).values() if root in path], 10, "all are closed")


def test_a_download_that_has_begun_survives_its_deletion(api: Api, bearer: dict[str, str]) -> None:
    content = bytes(range(256)) * 100_000
    assert api.call("PUT", "/resources/large", bearer, content).status == 201
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=20)
    with closing(connection):
        connection.request("GET", "/resources/large", headers=bearer)
        response = connection.getresponse()
        received = response.read(1000)
        assert api.call("DELETE", "/resources/large", bearer).status == 204
        assert api.call("GET", "/resources/large", bearer).status == 404
        assert received + response.read() == content
