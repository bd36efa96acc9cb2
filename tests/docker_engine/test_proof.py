"""The proof that an image can be run, which the containerd store needs (API below 1.48)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from loader.docker_engine import DockerEngine, NotRunnable
from loader.docker_engine.connection import NotPermitted
from loader.errors import DiskSpace
from tests.docker_engine.connecting import EXPECTED
from tests.support.fake_engine import FakeCall, FakeEngine

QUERY_SECONDS = 0.2


def inspected(image_id: str = EXPECTED.manifest) -> dict[str, Any]:
    """Return what an engine with the containerd store and API 1.45 tells about `EXPECTED`."""
    return {"Id": image_id, "RootFS": {"Layers": list(EXPECTED.layers)}}


def test_a_proof_may_take_longer_than_a_query(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a fake is slow on demand, as an engine is that copies large volumes."""
    monkeypatch.setattr("loader.docker_engine.connection.QUERY_TIMEOUT", QUERY_SECONDS)
    asked = []

    def create_slowly(call: FakeCall) -> None:
        asked.append(call.path)
        threading.Event().wait(4 * QUERY_SECONDS)
        call.respond(201, {"Id": "a" * 64})

    fake.image = (200, inspected())
    fake.load = create_slowly
    DockerEngine(60).prove([EXPECTED])
    assert asked == ["/v1.41/containers/create"]


def manifests(*, unpacked: int = 0, available: bool = True) -> dict[str, Any]:
    """Return what an engine with API 1.48 tells about `EXPECTED`."""
    told = {"Kind": "image", "Available": available, "ImageData": {"Size": {"Unpacked": unpacked}}}
    return {**inspected(), "Manifests": [told]}


def refuse(status: int, message: str) -> Callable[[FakeCall], None]:
    return lambda call: call.respond(status, {"message": message})


def make(call: FakeCall) -> None:
    call.respond(201, {"Id": "a" * 64})


@pytest.mark.parametrize(
    "told",
    [inspected(), manifests(), {**manifests(unpacked=4096), "RootFS": {}}],
    ids=["nothing told", "no room taken", "no layers"],
)
def test_the_engine_makes_a_container_where_it_does_not_tell_that_an_image_is_unpacked(
    fake: FakeEngine, told: dict[str, Any]
) -> None:
    """On XFS, layers of empty directories take no room. Only a fake tells each of these on demand."""
    fake.image, fake.load = (200, told), make
    assert DockerEngine(60).can_run(EXPECTED)
    fake.load = refuse(404, "failed to extract layer: content digest: not found")
    assert not DockerEngine(60).can_run(EXPECTED)
    with pytest.raises(NotRunnable, match=f"cannot run {EXPECTED.reference}: failed to extract layer") as caught:
        DockerEngine(60).prove([EXPECTED])
    assert f"`docker image rm {EXPECTED.reference}`" in caught.value.hint


@pytest.mark.parametrize(
    ("told", "runs"),
    [
        (manifests(unpacked=4096), True),
        (manifests(unpacked=4096, available=False), False),
        ({**manifests(available=False), "RootFS": {}}, False),
        (inspected(EXPECTED.config), True),
        (inspected("sha256:" + "f" * 64), False),
    ],
    ids=["unpacked", "not available", "not available, no layers", "classic store", "another image"],
)
def test_no_container_is_made_where_the_engine_tells_enough(fake: FakeEngine, told: dict[str, Any], runs: bool) -> None:
    made: list[FakeCall] = []
    fake.image, fake.load = (200, told), made.append
    assert DockerEngine(60).can_run(EXPECTED) is runs
    assert made == []


def test_a_proof_that_is_forbidden_or_finds_no_room_says_nothing_about_the_image(fake: FakeEngine) -> None:
    fake.image = (200, inspected())
    for response, kind in (
        (refuse(403, "authorization denied by plugin"), NotPermitted),
        (lambda call: call.respond_bytes(400, b"<html>"), NotPermitted),
        (refuse(500, "mkdir /x: no space left on device"), DiskSpace),
    ):
        fake.load = response
        with pytest.raises(kind):
            DockerEngine(60).can_run(EXPECTED)
