"""Which names are allowed for objects: the rule itself, and requests over HTTP."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_api.names import InvalidNameError, components_of
from tests.resource_api.conftest import Api

LONGEST_OBJECT = "f" * 128 + "." + "0" * 64 + ".big"
LONGEST_FOLDER = "d" * 128


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "0",
        "a.b",
        "a..small",
        "d/a..b",
        "a_b-c.D",
        "models/day/net.bin.small",
        LONGEST_OBJECT,
        f"{LONGEST_FOLDER}/{'o' * 251}",
    ],
)
def test_valid_names_are_accepted(name: str) -> None:
    assert "/".join(components_of(name)) == name


INVALID = [
    *("", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/../b", "a/./b", "a..b/c", ".hidden", "-a", "_a"),
    *("a b", "a\\b", "a\0b", "a\n", "a\r\nb", "a\t", "a%2e", "ä", "a:b", "~a", "a\u2028", "a\ud800"),
    *("o" * 252, "d" * 129 + "/a", "/".join(["d" * 100] * 11)),
]


@pytest.mark.parametrize("name", INVALID)
def test_invalid_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidNameError):
        components_of(name)


@given(st.text(alphabet=st.sampled_from("aZ0.-_/\\\0\n%é"), max_size=12))
def test_no_accepted_name_leaves_the_root_directory(name: str) -> None:
    try:
        components = components_of(name)
    except InvalidNameError:
        return
    assert all(component[0].isalnum() and not set(component) & set("/\\\0\n%é") for component in components)


@pytest.mark.parametrize(
    "path",
    [
        *("..", "%2e%2e", "..%2f..%2fusers.json", "../users.json", "a/../../users.json", "a%2f..%2f..%2fusers.json"),
        *("a%00b", "a%5cb", "%5c..%5cusers.json", "a%0d%0ab", "a%0a", "/etc/passwd", "%2fetc%2fpasswd", "a//b", "a/"),
        *(".hidden", "%252e%252e", "%ff", "a%20b", "a..b/c", "o" * 252, "d" * 129 + "/a", "x/" * 600 + "a"),
    ],
)
def test_a_request_with_an_invalid_name_is_refused_and_changes_no_file(
    api: Api, bearer: dict[str, str], path: str
) -> None:
    before = sorted(api.data.root.rglob("*"))
    for method, body in (("GET", None), ("PUT", b"evil"), ("DELETE", None)):
        reply = api.call(method, f"/resources/{path}", bearer, body)
        assert reply.status in (400, 404)
        reply.problem()
    assert sorted(api.data.root.rglob("*")) == before


def test_an_absolute_request_target_means_its_path(api: Api, bearer: dict[str, str]) -> None:
    assert api.call("GET", "http://elsewhere/resources/none", bearer).status == 404
    assert api.call("PUT", "http://elsewhere/resources/%2e%2e", bearer, b"evil").status == 400


def test_the_longest_name_can_be_stored(api: Api, bearer: dict[str, str]) -> None:
    path = f"/resources/{LONGEST_FOLDER}/{LONGEST_OBJECT}"
    assert api.call("PUT", path, bearer, b"content").status == 201
    assert api.call("GET", path, bearer).body == b"content"


def test_percent_encoding_in_a_name_is_decoded(api: Api, bearer: dict[str, str]) -> None:
    assert api.call("PUT", "/resources/%61%2Fb", bearer, b"content").status == 201
    assert api.call("GET", "/resources/a/b", bearer).body == b"content"
