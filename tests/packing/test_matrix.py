"""Packers and devices of all engines, each once; test_matrix_whole.py has all pairs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from tests.packing.matrix_devices import assert_exact, nothing_else_appears, unlock
from tests.packing.matrix_packers import AGAIN, ENGINE_PACKERS, ENGINES, FILE_PACKERS, IMAGES, NAMES, run_pack
from tests.support.archives import APP, DATABASE, PREFIX, remove_all_images
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage, docker_archive
from tests.support.unlocking import READY
from tests.unlock.watched_device import MODES, watched_device

CODECS = ("gzip", "none")
# Each engine unlocks what the engine before it packs.
RING = list(zip(ENGINES, (*ENGINES[1:], ENGINES[0]), cycle(MODES), cycle(CODECS), strict=False))
DIAGONAL = list(zip(FILE_PACKERS, cycle(reversed(ENGINES)), cycle(MODES), cycle(CODECS), strict=False))


@pytest.mark.parametrize(("packer", "device", "mode", "codec"), RING)
def test_a_loader_unlocks_what_another_engine_packed_and_its_engine_packs_the_same_again(
    request: pytest.FixtureRequest,
    output: Path,
    packer: str,
    device: str,
    mode: str,
    codec: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head = ENGINE_PACKERS[packer].pack(request.getfixturevalue(packer), output, codec)
    engine: Engine = request.getfixturevalue(device)
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    with nothing_else_appears(engine, head.images):
        with watched_device(output.parent, engine, mode) as watched:
            assert watched.unlock(output.read_bytes()) == READY
        assert_exact(engine, head.images, output.parent)
        again = run_pack(output, codec, *NAMES, host=engine.host)
    assert again.images == head.images


@pytest.mark.parametrize(("packer", "device", "mode", "codec"), DIAGONAL)
def test_an_engine_gets_exactly_the_images_of_a_file(
    request: pytest.FixtureRequest,
    output: Path,
    packer: str,
    device: str,
    mode: str,
    codec: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = FILE_PACKERS[packer]
    head = chosen.pack(request.getfixturevalue(chosen.engine), output, codec)
    engine: Engine = request.getfixturevalue(device)
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    with nothing_else_appears(engine, head.images):
        unlock(output, mode)
        assert_exact(engine, head.images, output.parent)


def load_images(engine: Engine, mistake: Callable[[Engine], None] = lambda _: None) -> None:
    list(engine.client.api.load_image(b"".join(docker_archive(*IMAGES))))
    mistake(engine)


def add_name(engine: Engine) -> None:
    engine.client.api.tag(APP, f"{PREFIX}more", "1")


def remove_name(engine: Engine) -> None:
    engine.client.api.remove_image(AGAIN)


def move_name(engine: Engine) -> None:
    engine.client.api.tag(DATABASE, *APP.split(":"))


def add_unnamed_image(engine: Engine) -> None:
    more = f"{PREFIX}more:1"
    list(engine.client.api.load_image(b"".join(docker_archive(HandmadeImage(more)))))
    engine.client.api.tag(DATABASE, *more.split(":"))
    engine.client.api.remove_image(more)


@pytest.mark.parametrize("mistake", [add_name, remove_name, move_name, add_unnamed_image])
def test_anything_else_in_an_engine_is_noticed(
    docker_engine: Engine, monkeypatch: pytest.MonkeyPatch, mistake: Callable[[Engine], None]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    images = [image.image for image in IMAGES]
    with nothing_else_appears(docker_engine, images):
        load_images(docker_engine)
    with pytest.raises(AssertionError), nothing_else_appears(docker_engine, images):
        load_images(docker_engine, mistake)


def test_another_image_under_the_right_name_is_noticed(
    docker_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    images = [image.image for image in IMAGES]
    load_images(docker_engine)
    assert_exact(docker_engine, images, tmp_path)
    move_name(docker_engine)
    with pytest.raises(AssertionError):
        assert_exact(docker_engine, images, tmp_path)
    remove_all_images(docker_engine)
