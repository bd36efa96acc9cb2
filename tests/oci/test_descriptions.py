"""Manifests and configurations of images must say what the head of the archive says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loader.errors import CorruptCiphertext
from loader.oci import ImageConfig, digest_of, require_described
from tests.oci.handmade import HEAD, IMAGE, NAME


def manifest() -> dict[str, Any]:
    return dict(json.loads(IMAGE.manifest))


def config() -> dict[str, Any]:
    return dict(json.loads(IMAGE.config))


def require(manifest_: object, config_: object) -> None:
    raw = [data if isinstance(data, bytes) else json.dumps(data).encode() for data in (manifest_, config_)]
    require_described(HEAD, IMAGE.image, *raw)


def test_what_the_head_says_is_accepted_in_any_form() -> None:
    require(IMAGE.manifest, IMAGE.config)
    require(manifest() | {"annotations": {"a": "b"}}, config() | {"history": [], "config": {"Env": ["A=1"]}})


def layers_of(change: Any) -> dict[str, Any]:
    """Return the manifest with changed layers."""
    document = manifest()
    change(document["layers"])
    return document


WRONG_MANIFESTS: dict[str, object] = {
    "no JSON": b"{",
    "not UTF-8": b'{"a":"\xff"}',
    "UTF-16": json.dumps(manifest()).encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(manifest()).encode(),
    "no number": json.dumps(manifest() | {"annotations": float("nan")}).encode(),
    "deep": b"[" * 100_000,
    "a list": [],
    "null": None,
    "an index": {"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []},
    "of Docker": manifest() | {"mediaType": "application/vnd.docker.distribution.manifest.v2+json"},
    "no type": {key: value for key, value in manifest().items() if key != "mediaType"},
    "no configuration": {key: value for key, value in manifest().items() if key != "config"},
    "no layers": {key: value for key, value in manifest().items() if key != "layers"},
    "layers null": manifest() | {"layers": None},
    "empty layers": manifest() | {"layers": []},
    "another configuration": manifest() | {"config": manifest()["config"] | {"digest": digest_of(b"x")}},
    "another size of the configuration": manifest() | {"config": manifest()["config"] | {"size": 1}},
    "another type of the configuration": manifest() | {"config": manifest()["config"] | {"mediaType": "text/plain"}},
    "a layer less": layers_of(lambda layers: layers.pop()),
    "a layer more": layers_of(lambda layers: layers.append(layers[0])),
    "another order": layers_of(lambda layers: layers.reverse() or layers.insert(0, layers.pop(1))),
    "another layer": layers_of(lambda layers: layers[1].update(digest=digest_of(b"x"))),
    "another size of a layer": layers_of(lambda layers: layers[1].update(size=0)),
    "a compressed layer": layers_of(
        lambda layers: layers[1].update(mediaType="application/vnd.oci.image.layer.v1.tar+gzip")
    ),
    "a layer without digest": layers_of(lambda layers: layers[1].pop("digest")),
    "a layer that is a string": layers_of(lambda layers: layers.insert(0, "x")),
}


@pytest.mark.parametrize("document", WRONG_MANIFESTS.values(), ids=WRONG_MANIFESTS)
def test_a_manifest_that_says_something_else_is_refused(document: object) -> None:
    with pytest.raises(CorruptCiphertext, match=f"the manifest of {NAME} is not the one that its head describes"):
        require(document, IMAGE.config)


DIFF_IDS = config()["rootfs"]["diff_ids"]
OTHER_CONFIGS: dict[str, object] = {
    "another system": config() | {"os": "windows"},
    "another architecture": config() | {"architecture": "arm64"},
    "a variant": config() | {"variant": "v8"},
    "another time": config() | {"created": "2026-01-02T03:04:05Z"},
    "no time": {key: value for key, value in config().items() if key != "created"},
    "a layer less": config() | {"rootfs": {"type": "layers", "diff_ids": DIFF_IDS[:-1]}},
    "a layer more": config() | {"rootfs": {"type": "layers", "diff_ids": [*DIFF_IDS, DIFF_IDS[0]]}},
    "another order": config() | {"rootfs": {"type": "layers", "diff_ids": [DIFF_IDS[1], *DIFF_IDS[:1] * 2]}},
    "no layers": config() | {"rootfs": {"type": "layers", "diff_ids": None}},
}


@pytest.mark.parametrize("document", OTHER_CONFIGS.values(), ids=OTHER_CONFIGS)
def test_a_configuration_that_says_something_else_is_refused(document: object) -> None:
    with pytest.raises(CorruptCiphertext, match=f"the configuration of {NAME} is not the one that its head describes"):
        require(IMAGE.manifest, document)


MALFORMED_CONFIGS: dict[str, object] = {
    "no JSON": b"{",
    "not UTF-8": b'{"a":"\xff"}',
    "UTF-16": IMAGE.config.decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + IMAGE.config,
    "no number": IMAGE.config[:-1] + b', "x": NaN}',
    "deep": b"[" * 100_000,
    "a list": [],
    "null": None,
    "a string": "x",
    "empty": {},
    "no system": {key: value for key, value in config().items() if key != "os"},
    "a system that is a number": config() | {"os": 1},
    "a variant that is a list": config() | {"variant": ["v8"]},
    "a time that is a number": config() | {"created": 5},
    "a time that is none": config() | {"created": "yesterday"},
    "an architecture in other letters": config() | {"Architecture": "arm64"},
    "a system with a letter that folds": config() | {"o\u017f": "windows"},
    "a file system in other letters": config() | {"RootFS": {"diff_ids": []}},
    "layers in other letters": config() | {"rootfs": {"diff_ids": DIFF_IDS, "Diff_IDs": []}},
    "no file system": {key: value for key, value in config().items() if key != "rootfs"},
    "a file system that is a list": config() | {"rootfs": []},
    "layers that are numbers": config() | {"rootfs": {"diff_ids": [1]}},
    "layers that are a number": config() | {"rootfs": {"diff_ids": 7}},
}


@pytest.mark.parametrize("document", MALFORMED_CONFIGS.values(), ids=MALFORMED_CONFIGS)
def test_a_malformed_configuration_is_refused(document: object) -> None:
    with pytest.raises(CorruptCiphertext, match="a configuration of an image in it is malformed"):
        require(IMAGE.manifest, document)


def test_a_configuration_without_time_variant_and_layers_is_read() -> None:
    read = ImageConfig.parse(b'{"os":"linux","architecture":"arm64","rootfs":{"type":"layers","diff_ids":null}}')
    assert read == ImageConfig("linux/arm64", "", ())
