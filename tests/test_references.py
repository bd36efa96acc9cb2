"""Names of images, as the Docker reference format writes them in full; most examples are those of its own tests."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader.references import (
    MalformedReference,
    full_reference,
    is_full_reference,
    is_version,
    short_reference,
    split_tag,
)

HEX = "0123456789abcdef" * 4
LONG = "a/" * 128 + "a"

FULL = {
    "redis": "docker.io/library/redis:latest",
    "redis:7": "docker.io/library/redis:7",
    "library/redis:7": "docker.io/library/redis:7",
    "docker.io/redis:7": "docker.io/library/redis:7",
    "docker.io/library/redis:7": "docker.io/library/redis:7",
    "index.docker.io/redis:7": "docker.io/library/redis:7",
    "index.docker.io/library/redis:7": "docker.io/library/redis:7",
    "dmcgowan/myapp": "docker.io/dmcgowan/myapp:latest",
    "docker.io/dmcgowan/myapp": "docker.io/dmcgowan/myapp:latest",
    "index.docker.io/dmcgowan/myapp:foo": "docker.io/dmcgowan/myapp:foo",
    "docker/docker": "docker.io/docker/docker:latest",
    "localhost/myapp": "localhost/myapp:latest",
    "localhost:5000/myapp": "localhost:5000/myapp:latest",
    "localhost": "docker.io/library/localhost:latest",
    "localhost:5000": "docker.io/library/localhost:5000",
    "foo_bar.com:8080": "docker.io/library/foo_bar.com:8080",
    "gcr.io/a/b/c:1": "gcr.io/a/b/c:1",
    "registry.local:5000/app:1.4": "registry.local:5000/app:1.4",
    "test.com:8080/foo": "test.com:8080/foo:latest",
    "sub-dom1.foo.com/bar/baz/quux:some-long-tag": "sub-dom1.foo.com/bar/baz/quux:some-long-tag",
    "192.168.1.1/foo": "192.168.1.1/foo:latest",
    "192.168.1.1:443/foo/bar:1": "192.168.1.1:443/foo/bar:1",
    "[2001:db8::1]/foo": "[2001:db8::1]/foo:latest",
    "[2001:db8::1]:5000/foo/bar:1": "[2001:db8::1]:5000/foo/bar:1",
    "[::1]:5000/foo": "[::1]:5000/foo:latest",
    "HOST/foo:1": "HOST/foo:1",
    "Uppercase.com/foo": "Uppercase.com/foo:latest",
    "xn--n3h.com/myimage:xn--n3h.com": "xn--n3h.com/myimage:xn--n3h.com",
    "b.gcr.io/test.example.com/my-app:test.example.com": "b.gcr.io/test.example.com/my-app:test.example.com",
    "foo/foo_bar.com:8080": "docker.io/foo/foo_bar.com:8080",
    "foo_bar/baz": "docker.io/foo_bar/baz:latest",
    "a__b/c---d.e_f:1": "docker.io/a__b/c---d.e_f:1",
    "0/1:2": "docker.io/0/1:2",
    "a:_": "docker.io/library/a:_",
    "a:A-1.b_C": "docker.io/library/a:A-1.b_C",
    "a:" + "x" * 128: "docker.io/library/a:" + "x" * 128,
    HEX[:63]: f"docker.io/library/{HEX[:63]}:latest",
    HEX + "0": f"docker.io/library/{HEX}0:latest",
    f"repo/{HEX}": f"docker.io/repo/{HEX}:latest",
    "a.b/" + "c" * 251: "a.b/" + "c" * 251 + ":latest",
}


@pytest.mark.parametrize(("text", "full"), FULL.items(), ids=[text[:40] for text in FULL])
def test_a_name_is_completed(text: str, full: str) -> None:
    assert full_reference(text) == full
    assert full_reference(full) == full
    assert is_full_reference(full)
    assert is_full_reference(text) == (text == full)


MALFORMED = [
    *("", " ", ":", "/", ":1", "/a", "a/", "a//b", "a/b/", "https://github.com/docker/docker", "docker///docker"),
    *("Docker/docker/Docker", "Redis", "docker.io/Redis", "docker/Docker", "docker.io/docker/Docker", "a/B:1"),
    *("-docker", "docker-", "docker.io/-docker", "docker-/docker", "-docker/docker", "docker.io/a-", "a..b", "a._b"),
    *("_docker/_docker", "_docker", "docker_", "a___b", "_.a", "a.", ".a", "a.b/c.", "a.b/.c", "docker.io/docker//a"),
    *("-foo.com/bar", "foo-.com/bar", "a..b/c", ".a.b/c", "a.b./c", "foo.com:/bar", "foo.com:x/bar", "foo.com:80a/bar"),
    *("[2001:db8::1", "2001:db8::1/foo", "[2001:db8::1]", "[fe80::1%eth0]:5000/foo", "[x]/foo", "[]/foo", "[::1]x/foo"),
    *("a:", "a:.1", "a:-1", "a: 1", "a:1 ", "a:1\n", "a\n", "a:\u0661", "é", "a:é", "a b", "a@b", "a:1:2", "a/b:1/2:"),
    *("a:" + "x" * 129, "a.b/" + "c" * 252, LONG, "foo.com/" + LONG, "library/" + "a" * 247, "a" * 239),
    *("a%b", "a+b", "a*", "a:1+2", "a\0", "a\tb", "\ud800", "a\u202e:1", "A", "A:1"),
]


@pytest.mark.parametrize("text", MALFORMED, ids=lambda text: ascii(text)[:40])
def test_what_is_no_name_is_refused(text: str) -> None:
    assert not is_full_reference(text)
    with pytest.raises(MalformedReference, match=r"is not the name of an image; write it as name:tag\."):
        full_reference(text)


@pytest.mark.parametrize("name", ["redis", "redis:7", "a.b:5000/c", "a.b/c:1", "a.b/c"])
@pytest.mark.parametrize("digest", [f"sha256:{HEX}", f"sha512:{HEX}{HEX}", "sha256:00", f"a+b.c:{HEX}"])
def test_a_name_by_digest_is_refused_with_advice(name: str, digest: str) -> None:
    text = f"{name}@{digest}"
    assert not is_full_reference(text)
    with pytest.raises(MalformedReference, match=re.escape("by its digest, which an engine cannot keep; give it a")):
        full_reference(text)


@pytest.mark.parametrize("text", [HEX, f"sha256:{HEX}"])
def test_an_image_id_is_refused_with_advice(text: str) -> None:
    assert not is_full_reference(text)
    with pytest.raises(MalformedReference, match="is the ID of an image; write its name and tag instead"):
        full_reference(text)


@pytest.mark.parametrize("domain", ["a.b", "localhost", "a.b:5000", "[::1]:5000", "docker.io/library"])
def test_a_name_without_tag_has_up_to_255_characters(domain: str) -> None:
    longest = f"{domain}/{'c' * (254 - len(domain))}"
    assert is_full_reference(f"{longest}:1")
    assert is_full_reference(f"{longest}:{'1' * 128}")
    assert not is_full_reference(f"{longest}c:1")
    assert not is_full_reference(f"{longest}:{'1' * 129}")


@pytest.mark.parametrize(
    ("text", "name", "tag"),
    [
        ("a:1.4.2", "a", "1.4.2"),
        ("a", "a", None),
        ("localhost:5000/a", "localhost:5000/a", None),
        ("localhost:5000/b/a:1", "localhost:5000/b/a", "1"),
        ("[::1]:5000/a", "[::1]:5000/a", None),
        ("[::1]/a:1", "[::1]/a", "1"),
        ("a:", "a", ""),
        ("", "", None),
    ],
)
def test_the_tag_of_a_name(text: str, name: str, tag: str | None) -> None:
    assert split_tag(text) == (name, tag)


@pytest.mark.parametrize("text", ["a", "1.4.2", "_", "A-1._", "x" * 128])
def test_versions(text: str) -> None:
    assert is_version(text)


@pytest.mark.parametrize("text", ["", ".1", "-1", "1:2", "1/2", "1 ", "1\n", "é", "\u0661", "x" * 129])
def test_no_versions(text: str) -> None:
    assert not is_version(text)


LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True)
DOMAIN = st.lists(LABEL, min_size=2, max_size=4).map(".".join)
PORT = st.just("") | st.integers(0, 65_535).map(":{}".format)
COMPONENT = st.from_regex(r"[a-z0-9]{1,4}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
PATH = st.lists(COMPONENT, min_size=1, max_size=4).map("/".join)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(DOMAIN, PORT, PATH, TAG)
def test_every_name_of_the_grammar_is_full(domain: str, port: str, path: str, tag: str) -> None:
    reference = f"{domain}{port}/{path}:{tag}"
    assert is_full_reference(reference)
    assert full_reference(reference) == reference
    assert split_tag(reference) == (f"{domain}{port}/{path}", tag)


@given(st.text(max_size=40) | st.text("aA0.:/-_@[]", max_size=40))
def test_any_text_is_completed_once_or_refused(text: str) -> None:
    try:
        full = full_reference(text)
    except MalformedReference:
        return
    assert is_full_reference(full)
    assert full_reference(full) == full


@pytest.mark.parametrize(
    ("reference", "short"),
    [
        ("docker.io/library/redis:7", "redis:7"),
        ("docker.io/azaion/app:1", "azaion/app:1"),
        ("docker.io/a/b/c:1", "a/b/c:1"),
        ("docker.io/library/a/b:1", "library/a/b:1"),
        ("registry.example/app:1", None),
        ("localhost/app:1", None),
        ("docker.io/foo.bar/app:1", None),  # the short name would be one of the registry foo.bar
        ("docker.io/localhost/app:1", None),
    ],
)
def test_only_a_name_of_docker_hub_has_a_short_one(reference: str, short: str | None) -> None:
    assert short_reference(reference) == short
    assert short is None or full_reference(short) == reference
