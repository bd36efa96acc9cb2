"""Makes what is shipped to a device: a model, an image, the key fragment and the archive."""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .commands import StepFailed, python, run
from .engine import Engine
from .screen import Screen

VERSION = "1.0"
MODEL_SIZE = 64 << 20
IMAGE_SIZE = 16 << 20
PIECE_SIZE = 1 << 20


@dataclass(frozen=True)
class Goods:
    """The paths of the files, and the name of the image."""

    reference: str
    fragment: Path
    archive: Path


def make_model(screen: Screen, directory: Path) -> Path:
    """Write a file of random bytes, as a stand-in for a model."""
    screen.step("A model to ship")
    model = directory / "model.bin"
    with model.open("wb") as file:
        for _ in range(MODEL_SIZE // PIECE_SIZE):
            file.write(os.urandom(PIECE_SIZE))
    screen.good(f"{model}, {MODEL_SIZE >> 20} MiB of random bytes")
    return model


def make_goods(screen: Screen, cleanup: ExitStack, engine: Engine, directory: Path) -> Goods:
    """Pack an image into an archive and remove it from the engine. `cleanup` removes it again after the unlock."""
    screen.step("An image to ship, packed into an encrypted archive")
    goods = Goods(_unused_name(), directory / "fragment.key", directory / "device" / "images.enc")
    goods.archive.parent.mkdir()
    cleanup.callback(_remove_image, screen, engine, goods.reference)
    engine.make_image(goods.reference, IMAGE_SIZE)
    screen.good(f"{goods.reference} is in the engine, imported from a tar made here")
    for command in (
        python("-m", "loader", "key", "new", "-o", str(goods.fragment)),
        python(
            *("-m", "loader", "images", "pack", goods.reference),
            *("--key", str(goods.fragment), "-o", str(goods.archive)),
            DOCKER_HOST=engine.host,
        ),
    ):
        screen.command(str(command))
        screen.output(run(command, directory))
    engine.remove_image(goods.reference)
    if engine.has_image(goods.reference):
        raise StepFailed(f"expected {goods.reference} to be gone from the engine")
    screen.good(f"{goods.reference} is removed from the engine: only the archive has it now")
    return goods


def _unused_name() -> str:
    """Return a name that no image of the user's engine has."""
    return f"azaion-demo-{secrets.token_hex(4)}:{VERSION}"


def _remove_image(screen: Screen, engine: Engine, reference: str) -> None:
    try:
        engine.remove_image(reference)
    except StepFailed as exc:
        screen.bad(f"the image {reference} may still be there: {exc}")
