"""Unusual configurations and layers keep their digests through every engine, there and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from loader.crypto.archive_head import Image
from loader.oci import ImageConfig
from tests.packing.matrix_devices import assert_exact, nothing_else_appears, unlock
from tests.packing.matrix_packers import ENGINES, NOISE, SHARED, run_pack
from tests.support.archives import PREFIX
from tests.support.engines import Engine
from tests.support.handmade_image import CREATED, HandmadeImage, HandmadeLayer, seal


@dataclass(frozen=True)
class EmptyLayer(HandmadeLayer):
    """A tar without files, as builders write it for an instruction that changes nothing."""

    def content(self) -> Iterator[bytes]:
        """Yield the end of a tar."""
        yield bytes(1024)


@dataclass(frozen=True)
class UnusualImage(HandmadeImage):
    """An image whose configuration has `fields` besides or instead of its own, and is written with white space."""

    fields: dict[str, Any] = field(default_factory=dict, hash=False)

    @cached_property
    def config(self) -> bytes:
        """The configuration of the image."""
        document = json.loads(HandmadeImage(self.reference, self.layers, self.settings).config) | self.fields
        return json.dumps(document, indent=1, ensure_ascii=False).encode()

    @property
    def image(self) -> Image:
        """The image as a head describes it."""
        described = ImageConfig.parse(self.config)
        return replace(super().image, platform=described.platform, created=described.created)


HISTORY = [{"created_by": "RUN <a> & b"}, {"created_by": "ENV", "empty_layer": True}, {"created": CREATED}]
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "unknown": {"moby.buildkit.buildinfo.v1": "ä<>", "other": {"numbers": [1, 2.50]}},
    "history": {"history": HISTORY},
    "short-history": {"history": HISTORY[:1]},
    "no-time": {"created": None},
    "windows-fields": {"os.version": "1", "os.features": ["a"]},
    "former-fields": {"container": "0" * 64, "container_config": {"Cmd": ["x"]}, "docker_version": "20.10"},
    "no-settings": {"config": None},
    "variant": {"architecture": "arm", "variant": "v7"},
}
CHAINS = {
    "empty-layer": (SHARED, EmptyLayer(), NOISE),
    "only-empty-layer": (EmptyLayer(),),
    "layer-twice": (SHARED, NOISE, SHARED),
    "layer-in-a-row": (SHARED, SHARED, SHARED),
}
IMAGES = [
    *(UnusualImage(f"{PREFIX}{name}:1.4", (SHARED, NOISE), fields=fields) for name, fields in CONFIGURATIONS.items()),
    *(UnusualImage(f"{PREFIX}{name}:1.4", layers) for name, layers in CHAINS.items()),
]


@pytest.mark.parametrize(
    "device", [ENGINES[0], *(pytest.param(engine, marks=pytest.mark.long) for engine in ENGINES[1:])]
)
def test_an_unusual_image_is_unlocked_and_packed_again_as_it_is(
    request: pytest.FixtureRequest, output: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Engine = request.getfixturevalue(device)
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    images = [image.image for image in IMAGES]
    seal(output, IMAGES)
    with nothing_else_appears(engine, images):
        unlock(output, "stream")
        assert_exact(engine, images, output.parent)
        again = run_pack(output, "gzip", *(image.reference for image in images), host=engine.host)
    assert list(again.images) == images
