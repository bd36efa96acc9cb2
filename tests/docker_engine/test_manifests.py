"""What an inspection says of the manifests of an image: whether it is unpacked (API 1.48)."""

from __future__ import annotations

from typing import Any

import pytest

from loader.docker_engine import EngineImage
from loader.errors import EngineRejected
from tests.docker_engine.connecting import EXPECTED

WHOLE = {"Kind": "image", "Available": True, "ImageData": {"Size": {"Unpacked": 4096}}}
PACKED = {"Kind": "image", "Available": True, "ImageData": {"Size": {"Unpacked": 0}}}
ABSENT = {"Kind": "image", "Available": False, "ImageData": {"Size": {"Unpacked": 4096}}}
STATEMENT = {"Kind": "attestation", "Available": True}


def inspected(manifests: Any, layers: tuple[str, ...] = EXPECTED.layers) -> dict[str, Any]:
    return {"Id": EXPECTED.manifest, "RootFS": {"Layers": list(layers)}, "Manifests": manifests}


@pytest.mark.parametrize(
    ("manifests", "unpacked"),
    [
        (None, None),
        ([], None),
        ([STATEMENT], None),
        ([WHOLE], True),
        ([STATEMENT, WHOLE], True),
        ([ABSENT, WHOLE], True),
        ([PACKED], False),
        ([ABSENT], False),
        ([PACKED, STATEMENT], False),
        ([{"Kind": "image", "Available": True}], False),
        ([{"Kind": "image", "Available": True, "ImageData": None}], False),
        ([{"Kind": "image", "Available": True, "ImageData": {"Size": {"Unpacked": None}}}], False),
    ],
)
def test_an_image_is_there_unless_its_manifests_say_that_it_is_not_unpacked(
    manifests: Any, unpacked: bool | None
) -> None:
    image = EngineImage.read(inspected(manifests))
    assert image.unpacked is unpacked
    assert image.is_image_of(EXPECTED) is (unpacked is not False)


def test_an_image_without_layers_has_nothing_to_unpack() -> None:
    image = EngineImage.read(inspected([PACKED], layers=()))
    assert image.unpacked is None
    assert image.is_image_of(EXPECTED)


@pytest.mark.parametrize("layers", [(), EXPECTED.layers], ids=["no layers", "layers"])
def test_an_image_whose_content_is_not_available_is_not_there(layers: tuple[str, ...]) -> None:
    """Docker 29 tells no layers of an image whose content is absent."""
    image = EngineImage.read(inspected([ABSENT, STATEMENT], layers))
    assert not image.available
    assert not image.is_image_of(EXPECTED)
    assert image.has_id_of(EXPECTED)
    assert EngineImage.read(inspected([ABSENT, WHOLE], layers)).available


@pytest.mark.parametrize("manifests", [5, ["x"], [{}], [{"Kind": "image"}], [{**PACKED, "ImageData": "x"}]], ids=str)
def test_nonsense_is_refused(manifests: Any) -> None:
    with pytest.raises(EngineRejected):
        EngineImage.read(inspected(manifests))
