"""Images that are made for another platform than that of the engine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from loader.docker_engine import EngineDescription, Store
from tests.support.handmade_image import HandmadeImage, seal
from tests.unlock.plan.planning import AMD64, APP, BASE, KnownEngine, plan


@pytest.mark.parametrize(
    ("architecture", "engine", "warned"),
    [
        ("arm64", "linux/amd64", True),
        ("amd64", "linux/arm64", True),
        ("amd64", "windows/amd64", True),
        ("arm64", "linux/arm64", False),
        ("arm64", "", False),
    ],
)
def test_images_for_another_platform_than_the_engine_s_are_warned_of(
    tmp_path: Path, architecture: str, engine: str, warned: bool
) -> None:
    images = [dataclasses.replace(APP, architecture=architecture, reference=f"app:{number}") for number in range(2)]
    path = seal(tmp_path / "images.enc", [*images, HandmadeImage("other:1", (BASE,), architecture=architecture)])
    made = plan(path, KnownEngine({}, EngineDescription(None, Store.CLASSIC, engine)))
    expected = [
        f"docker.io/library/{name} is made for linux/{architecture}, but the engine runs {engine}."
        for name in ("app:0", "other:1")
    ]
    assert list(made.warnings) == (expected if warned else [])
    # A warning stops nothing, because the engine may have an emulator.
    assert len(made.layouts) == 2


@pytest.mark.parametrize("platform", ["linux/arm64", "linux/arm64/v8", "linux/arm/v7"])
def test_the_variant_of_an_architecture_is_ignored(platform: str) -> None:
    assert EngineDescription(None, Store.CLASSIC, "linux/arm64").runs(platform) is ("arm64" in platform)
    assert not AMD64.runs(platform)
