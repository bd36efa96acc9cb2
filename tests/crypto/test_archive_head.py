"""The head of an archive: values at their limits are read, and every wrong value of every field is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader.crypto.archive_head import Blob, Head, Image, Packed, Release, StoredHead
from loader.errors import CorruptCiphertext
from tests.crypto.heads import blob, digest, document, image, parse
from tests.crypto.hostile_json import JSON_VALUES, MISSING, NO_SIZES, NO_STRINGS, JsonPath, case_name, changed
from tests.crypto.reference_archive import BUILT, CREATED
from tests.crypto.streams import UNHURRIED

DIGEST = digest("another")
HEX = DIGEST.removeprefix("sha256:")


def test_every_field_of_a_head_is_read() -> None:
    head = parse(document())
    assert head.release == Release("1.4.2", 7, CREATED)
    assert head.root_id == "0a" * 16
    base, own = digest("base"), digest("a")
    annotator = Image(
        "docker.io/azaion/annotator:1.4.2",
        "linux/arm64",
        BUILT,
        digest("manifest of annotator"),
        digest("configuration of annotator"),
        (base, own, base),
    )
    assert head.images[0] == annotator
    assert annotator.ids == {annotator.config, annotator.manifest}
    assert annotator.blobs == (annotator.manifest, annotator.config, base, own, base)
    packed = Packed(digest("packed b").removeprefix("sha256:"), 100)
    gzip = Blob(digest("b"), 300, "gzip", packed, digest("b, sealed").removeprefix("sha256:"))
    assert head.blobs[-1] == gzip == head.blob[digest("b")]
    assert (gzip.stored_size, head.blobs[0].stored_size) == (156, 356)


def test_an_image_under_another_name_is_the_same_image() -> None:
    head = parse(document())
    annotator, again, detector = head.images
    assert again.reference == "localhost:5000/annotator:latest"
    assert (again.platform, again.created, again.blobs) == (annotator.platform, annotator.created, annotator.blobs)
    assert head.distinct_images == ((annotator, again), (detector,))


def test_a_head_and_its_document_convert_into_each_other() -> None:
    head = parse(document())
    assert json.loads(json.dumps(head.document())) == document()
    stored = StoredHead.of(head)
    assert stored.head == head
    assert stored.raw == len(stored.raw[4:]).to_bytes(4, "big") + stored.raw[4:]
    assert json.loads(stored.raw[4:]) == document()


def test_a_repr_shows_no_raw_bytes() -> None:
    assert "raw" not in repr(StoredHead.of(parse(document())))


FIELDS: list[JsonPath] = [
    *((name,) for name in ("format", "release", "root_id", "images", "blobs")),
    *(("release", name) for name in ("version", "serial", "created")),
    *(("images", 0, name) for name in ("reference", "platform", "created", "manifest", "config", "layers")),
    *(("images", 1, name) for name in ("reference", "manifest")),
    *(("blobs", 6, name) for name in ("digest", "size", "codec", "packed", "stored")),
    *(("blobs", 6, "packed", name) for name in ("sha256", "size")),
]
NO_HEX: list[object] = [*NO_STRINGS.values(), "", HEX[:-1], HEX + "0", HEX.upper(), "0g" * 32, HEX + "\n", DIGEST]
NO_DIGESTS: list[object] = [
    *NO_STRINGS.values(),
    *("", HEX, DIGEST[:-1], DIGEST + "0", DIGEST.upper(), f"sha512:{HEX}", DIGEST + "\n", f" {DIGEST}", "sha256:"),
]
NO_INTEGERS: list[object] = [*(value for value in NO_SIZES.values() if value != 1 << 52), 1 << 53]
NO_VERSIONS: list[object] = [*NO_STRINGS.values(), "", ".1", "-1", "1/2", "1:2", "1 2", "1@2", "1\n", "é", "a" * 129]
NO_DATES: list[object] = [
    *NO_STRINGS.values(),
    *("", "2026-03-01", "2026-03-01T12:00:00", "2026-03-01 12:00:00Z", "now", "2026-03-01T12:00:00Z\n"),
    *("2026-03-01t12:00:00z", "2026-03-01T12:00:00.Z", "2026-03-01T12:00:00.1234567890Z", "2026-03-01T12:00:00+0100"),
    "٢٠٢٦-03-01T12:00:00Z",
]
NO_PLATFORMS: list[object] = [
    *NO_STRINGS.values(),
    *("", "/", "l", "linux", "linux/", "/arm64", "linux/arm64/", "linux/arm64/v8/x", "Linux/arm64", "linux/arm 64"),
    *("linux/arm64\n", "linux/arm64/V8", "linux/" + "a" * 59),
]
NO_REFERENCES: list[object] = [
    *NO_STRINGS.values(),
    *("", "redis", "redis:7", "azaion/app:1", "docker.io/redis:7", "index.docker.io/library/redis:7"),
    *("docker.io/library/redis", f"docker.io/library/redis@{DIGEST}", f"docker.io/library/redis:7@{DIGEST}"),
    *("docker.io/library/Redis:7", "docker.io/library/redis:", "docker.io/library/redis: 7", "a.b/c:1\n", "a.b//c:1"),
    *("a.b/c:" + "1" * 129, "a.b/" + "c" * 252 + ":1", "a.b/c:\u0661", HEX, DIGEST),
]
NO_LISTS: list[object] = [None, [], {}, "", 1, [None], [[]], ["a"], [{}]]
NO_OBJECTS: list[object] = [None, [], {}, "", 1, True, [{}], {"further": 1}]

WRONG_VALUES: list[tuple[JsonPath, object]] = [
    *((path, MISSING) for path in FIELDS),
    *(((*path, "further"), 1) for path in [(), ("release",), ("images", 0), ("images", 1), ("blobs", 6)]),
    (("blobs", 6, "packed", "further"), 1),
    *((("format",), value) for value in [*NO_INTEGERS, 0, 1, 3, 2.0, "2", True]),
    *((("release",), value) for value in NO_OBJECTS),
    *((("release", "version"), value) for value in NO_VERSIONS),
    *((("release", "serial"), value) for value in NO_INTEGERS),
    *((("release", "created"), value) for value in NO_DATES),
    *((("root_id",), value) for value in [*NO_HEX, HEX, "0a" * 15, "0A" * 16, "0a" * 16 + "\n"]),
    *((("images",), value) for value in NO_LISTS),
    *((("images", 0), value) for value in NO_OBJECTS),
    *((("images", 0, "reference"), value) for value in [*NO_REFERENCES, "localhost:5000/annotator:latest"]),
    *((("images", 0, "platform"), value) for value in NO_PLATFORMS),
    *((("images", 0, "created"), value) for value in [*NO_STRINGS.values(), "x" * 65, "a\nb", "\x1b[2J", "\u202e"]),
    *((("images", 0, "manifest"), value) for value in [*NO_DIGESTS, digest("configuration of annotator")]),
    *((("images", 0, "config"), value) for value in [*NO_DIGESTS, digest("manifest of annotator"), DIGEST]),
    *((("images", 0, "layers"), value) for value in [None, "", DIGEST, {}, {DIGEST: 1}, 1, [DIGEST]]),
    *((("images", 0, "layers", 1), value) for value in [*NO_DIGESTS, DIGEST, digest("manifest of annotator")]),
    (("images", 0, "layers", 1), digest("configuration of detector")),
    *((("images", 1, "reference"), value) for value in [*NO_REFERENCES, "docker.io/azaion/annotator:1.4.2"]),
    *(
        (("images", 1, "manifest"), value)
        for value in [*NO_DIGESTS, DIGEST, digest("manifest of detector"), digest("a")]
    ),
    *((("blobs",), value) for value in NO_LISTS),
    *((("blobs", 6), value) for value in NO_OBJECTS),
    *((("blobs", 6, "digest"), value) for value in [*NO_DIGESTS, DIGEST, digest("a")]),
    *((("blobs", 6, "size"), value) for value in NO_SIZES.values()),
    *((("blobs", 6, "codec"), value) for value in [*NO_STRINGS.values(), "", "None", "GZIP", "zstd", "none"]),
    *((("blobs", 6, "packed"), value) for value in NO_OBJECTS),
    *((("blobs", 6, "packed", "sha256"), value) for value in NO_HEX),
    *((("blobs", 6, "packed", "size"), value) for value in NO_SIZES.values()),
    *((("blobs", 6, "stored"), value) for value in [*NO_HEX, blob("a")["stored"]]),
    *((("blobs", 3, "packed", name), value) for name, value in [("sha256", HEX), ("size", 299)]),
    (("blobs", 3, "size"), 301),
    *((("blobs", number, "size"), (4 << 20) + 1) for number in (0, 1)),
]


@pytest.mark.parametrize(("path", "value"), WRONG_VALUES, ids=case_name)
def test_a_head_with_a_wrong_field_is_refused(path: JsonPath, value: object) -> None:
    wrong = changed(document(), path, value)
    with pytest.raises(CorruptCiphertext):
        Head.parse(wrong)
    with pytest.raises(CorruptCiphertext):
        parse(wrong)


ALLOWED_VALUES: list[tuple[JsonPath, object]] = [
    *((("release", "serial"), value) for value in (0, (1 << 53) - 1)),
    *((("release", "version"), value) for value in ("a", "_", "1.4.2-rc.1", "a" * 128)),
    *((("release", "created"), value) for value in ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00.123456789-07:30")),
    *((("images", 0, "reference"), value) for value in ("a.b/c:1", "[::1]:5000/c:1", "localhost/c:1", "A/c:1")),
    *((("images", 0, "reference"), value) for value in ("a.b/" + "c" * 251 + ":1", "a.b/c:" + "1" * 128)),
    *((("images", 0, "platform"), value) for value in ("a/b", "linux/arm/v7", "windows/x86_64", "linux/" + "a" * 58)),
    *((("images", 0, "created"), value) for value in ("", "x" * 64, "0001-01-01T00:00:00Z")),
    *((("images", 0, "layers"), value) for value in ([digest("a"), digest("base")], [digest("a")])),
    *((("blobs", 6, name), value) for name, value in [("size", 0), ("size", (1 << 52) - 1), ("stored", "0" * 64)]),
    *((("blobs", 6, "packed", "size"), value) for value in (0, 1 << 51)),
]


@pytest.mark.parametrize(("path", "value"), ALLOWED_VALUES, ids=case_name)
def test_a_head_with_a_value_at_its_limit_is_read(path: JsonPath, value: object) -> None:
    allowed = changed(document(), path, value)
    assert json.loads(json.dumps(parse(allowed).document())) == allowed


def test_two_images_of_the_same_configuration_are_allowed() -> None:
    """As it is with images that differ in the size or the order of their compressed layers only."""
    allowed = document()
    allowed["images"][2] |= {"config": allowed["images"][0]["config"], "layers": allowed["images"][0]["layers"]}
    allowed["blobs"] = [entry for number, entry in enumerate(allowed["blobs"]) if number not in (5, 6)]
    assert len({image.config for image in parse(allowed).images}) == 1


@pytest.mark.parametrize("changes", [{}, {"created": ""}, {"reference": "a.b/c:1"}], ids=["same", "other", "renamed"])
def test_an_image_is_described_once(changes: dict[str, str]) -> None:
    twice = document()
    twice["images"].append(twice["images"][0] | {"reference": "docker.io/azaion/annotator:2"} | changes)
    with pytest.raises(CorruptCiphertext, match="images"):
        parse(twice)


def test_a_short_form_stands_behind_the_full_one() -> None:
    early = document()
    early["images"][0], early["images"][1] = early["images"][1], early["images"][0]
    with pytest.raises(CorruptCiphertext, match="manifest"):
        parse(early)


def test_a_head_that_breaks_a_rule_is_not_stored() -> None:
    head = parse(document())
    with pytest.raises(ValueError, match="cannot be described: its field blobs"):
        StoredHead.of(Head(head.release, head.root_id, head.images, head.blobs[1:]))


@pytest.mark.parametrize("description", ["manifest", "config"])
@pytest.mark.parametrize("number", [0, 2], ids=["its own", "another image's"])
def test_a_layer_is_no_manifest_and_no_configuration(number: int, description: str) -> None:
    wrong = document()
    wrong["images"][2]["layers"].append(wrong["images"][number][description])
    with pytest.raises(CorruptCiphertext, match="blobs"):
        parse(wrong)


def test_a_manifest_is_no_configuration() -> None:
    wrong = document()
    wrong["images"][2]["config"] = wrong["images"][2]["manifest"]
    del wrong["blobs"][5]
    with pytest.raises(CorruptCiphertext, match="manifest"):
        parse(wrong)


@pytest.mark.parametrize(
    "changes", [{}, {"stored": HEX}, {"digest": DIGEST, "codec": "gzip"}], ids=["all", "digest", "stored"]
)
def test_no_two_blobs_have_the_same_digest_or_the_same_stored_bytes(changes: dict[str, str]) -> None:
    twice = document()
    twice["images"][2]["layers"].append(changes.get("digest", digest("b")))
    twice["blobs"].append(twice["blobs"][6] | changes)
    with pytest.raises(CorruptCiphertext, match="blobs"):
        parse(twice)
    twice["images"][2]["layers"][-1] = DIGEST
    twice["blobs"][-1] |= {"digest": DIGEST, "codec": "gzip", "stored": HEX}
    assert len(parse(twice).blobs) == 8


@settings(UNHURRIED, max_examples=200)
@given(st.sampled_from(FIELDS), JSON_VALUES)
def test_any_value_of_any_field_is_allowed_or_corrupt(path: JsonPath, value: object) -> None:
    described = changed(document(), path, value)
    try:
        parsed = Head.parse(described)
    except CorruptCiphertext:
        return
    assert json.loads(json.dumps(parsed.document())) == described


def test_names_of_images_do_not_depend_on_each_other() -> None:
    described: dict[str, Any] = document()
    described["images"].append(image("annotator", []) | {"manifest": DIGEST})
    with pytest.raises(CorruptCiphertext, match="images"):
        parse(described)
