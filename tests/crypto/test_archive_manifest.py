"""The manifest of an archive: values at the limits are read, and every wrong value of every field is refused."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader.crypto.archive import ArchiveHeader, Manifest, ManifestImage
from loader.errors import CorruptCiphertext
from tests.crypto.hostile_json import JSON_VALUES, MISSING, NO_SIZES, NO_STRINGS, JsonPath, case_name, changed
from tests.crypto.manifests import IMAGES, document, framed, manifest
from tests.crypto.streams import UNHURRIED

MAGIC = b"AZIMAGE1"


@pytest.mark.parametrize(
    ("reference", "tag"),
    [("a:1.4.2", "1.4.2"), ("a", ""), ("localhost:5000/a", ""), ("localhost:5000/b/a:1", "1"), ("a@sha256:00", "00")],
)
def test_the_tag_of_a_reference(reference: str, tag: str) -> None:
    assert ManifestImage(reference, "", (), "").tag == tag


def test_a_manifest_and_its_document_convert_into_each_other() -> None:
    assert Manifest.parse(document()) == manifest(5)
    assert Manifest.parse(json.loads(json.dumps(manifest(5).document()))) == manifest(5)
    assert Manifest.parse(document()).images == IMAGES


FIELDS: list[JsonPath] = [
    *((name,) for name in ("images", "tar_size", "key_check", "created")),
    *(("images", 1, name) for name in ("reference", "id", "layers", "created")),
]
DIGEST = "sha256:" + "0a" * 32
NO_DIGESTS = [
    *NO_STRINGS.values(),
    "",
    DIGEST[7:],
    DIGEST[:-1],
    DIGEST + "0",
    DIGEST.upper(),
    "sha512:" + "0a" * 32,
    DIGEST + "\n",
]
NO_IMAGES: list[object] = [None, [], {}, "azaion/annotator:1.4.2", 1, [None], [[]], ["a"], [{}]]
NO_LAYERS: list[object] = [None, DIGEST, {}, {DIGEST: 1}, 1, *([value] for value in NO_DIGESTS)]
NO_DATES = [
    *NO_STRINGS.values(),
    "",
    "2026-03-01",
    "2026-03-01T12:00:00",
    "2026-03-01 12:00:00Z",
    "now",
    "2026-03-01T12:00:00Z\n",
]
WRONG_VALUES: list[tuple[JsonPath, object]] = [
    *((path, MISSING) for path in FIELDS),
    *((path, value) for path, value in [(("further",), 1), (("images", 0, "further"), 1)]),
    *((("images",), value) for value in NO_IMAGES),
    *(
        (("images", 0, "reference"), value)
        for value in [*NO_STRINGS.values(), "", "a" * 513, "\ud800:1", "a\x1b[2J:1", "a\nb:1", IMAGES[1].reference]
    ),
    *((("images", 0, "id"), value) for value in NO_DIGESTS),
    *((("images", 0, "layers"), value) for value in NO_LAYERS),
    *((("images", 0, "created"), value) for value in [*NO_STRINGS.values(), "x" * 65, "\ud800", "\x1b[2J", "a\nb"]),
    *((("tar_size",), value) for value in NO_SIZES.values()),
    *(
        (("key_check",), value)
        for value in [*NO_STRINGS.values(), "", "0" * 15, "0" * 17, "ABCDEF0123456789", "0" * 15 + "g"]
    ),
    *((("created",), value) for value in NO_DATES),
]


@pytest.mark.parametrize(("path", "value"), WRONG_VALUES, ids=case_name)
def test_a_manifest_with_a_wrong_field_is_refused(path: JsonPath, value: object) -> None:
    wrong = changed(document(), path, value)
    with pytest.raises(CorruptCiphertext):
        Manifest.parse(wrong)
    with pytest.raises(CorruptCiphertext):
        ArchiveHeader.read(io.BytesIO(framed(MAGIC, wrong)))


ALLOWED_VALUES: list[tuple[JsonPath, object]] = [
    (("tar_size",), 0),
    (("tar_size",), (1 << 52) - 1),
    (("images", 0, "reference"), "a" * 512),
    (("images", 0, "layers"), [DIGEST] * 127),
    (("images", 0, "created"), "x" * 64),
    (("created",), "2026-03-01T12:00:00Z"),
    (("created",), "2026-03-01T12:00:00.123456789-07:30"),
]


@pytest.mark.parametrize(("path", "value"), ALLOWED_VALUES, ids=case_name)
def test_a_manifest_with_a_value_at_its_limit_is_read(path: JsonPath, value: object) -> None:
    allowed = changed(document(), path, value)
    assert json.loads(json.dumps(Manifest.parse(allowed).document())) == allowed


@settings(UNHURRIED, max_examples=200)
@given(st.sampled_from(FIELDS), JSON_VALUES)
def test_any_value_of_any_field_is_allowed_or_corrupt(path: JsonPath, value: object) -> None:
    described = changed(document(), path, value)
    try:
        parsed = Manifest.parse(described)
    except CorruptCiphertext:
        return
    assert json.loads(json.dumps(parsed.document())) == described
