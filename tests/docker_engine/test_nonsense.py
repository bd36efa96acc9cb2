"""Responses that the API of an engine does not have, from a fake engine."""

from __future__ import annotations

import io
from typing import Any

import pytest

from loader.docker_engine import DockerEngine, NotRunnable
from loader.errors import EngineRejected
from tests.docker_engine.connecting import EXPECTED
from tests.support.fake_engine import FakeEngine

NO_DESCRIPTIONS = [[1], {"DockerRootDir": 5}, {"DriverStatus": [5]}, {"DriverStatus": 5}]


@pytest.mark.parametrize("document", NO_DESCRIPTIONS, ids=repr)
def test_an_engine_that_describes_itself_by_nonsense_is_refused(fake: FakeEngine, document: Any) -> None:
    fake.info = (200, document)
    with pytest.raises(EngineRejected, match="a response that its API does not have"):
        DockerEngine(1).describe()


@pytest.mark.parametrize("version", [{"Components": ["x"]}, {"Components": 5}], ids=repr)
def test_an_engine_whose_parts_are_nonsense_is_refused(fake: FakeEngine, version: dict[str, Any]) -> None:
    fake.version = version
    with pytest.raises(EngineRejected, match="a response that its API does not have"):
        DockerEngine(1).describe()


@pytest.mark.parametrize("document", [{}, [], "x", {"Id": 5}, {"Id": "sha256:0", "RootFS": 5}], ids=repr)
def test_an_image_that_is_described_by_nonsense_is_refused(fake: FakeEngine, document: Any) -> None:
    fake.image = (200, document)
    with pytest.raises(EngineRejected, match="a response that its API does not have"):
        DockerEngine(1).find("a:1")


@pytest.mark.parametrize(
    "message",
    [[], "x", 5, {"progressDetail": 5}, {"id": [], "progressDetail": {}}, {"progressDetail": {"current": "x"}}],
)
def test_a_load_that_is_answered_by_nonsense_is_refused(fake: FakeEngine, message: object) -> None:
    fake.load = lambda call: call.respond(200, message)
    with pytest.raises(EngineRejected, match="a response that its API does not have"):
        DockerEngine(1).load(io.BytesIO(b"tar"))


@pytest.mark.parametrize("document", [None, {"a": 1}, [{}], 5], ids=repr)
def test_containers_that_are_listed_as_nonsense_keep_nothing_from_being_restored(
    fake: FakeEngine, document: Any
) -> None:
    fake.image = (200, document)
    DockerEngine(1).remove_proofs()


@pytest.mark.parametrize("document", [None, {}, [], "x"], ids=repr)
def test_a_container_that_is_made_of_nonsense_proves_nothing(fake: FakeEngine, document: Any) -> None:
    fake.image = (200, {"Id": EXPECTED.manifest, "RootFS": {"Layers": list(EXPECTED.layers)}})
    fake.load = lambda call: call.respond(201, document)
    with pytest.raises(NotRunnable, match="a response that its API does not have"):
        DockerEngine(1).prove([EXPECTED])
