"""Unlocks that end at the resource API."""

from __future__ import annotations

from tests.support.archives import Packed
from tests.support.engines import Engine
from tests.support.handmade_image import FRAGMENT
from tests.support.resource_api_server import ResourceApiServer
from tests.support.sites import NOBODY_LISTENS
from tests.support.unlocking import EMAIL, PASSWORD, READY, Rig, UnlockDevice
from tests.unlock.conftest import assert_failed

pytest_plugins = ("tests.support.unlock_fixtures",)


def test_rejected_credentials_end_the_unlock_and_valid_ones_complete_it(rig: Rig, packed: Packed) -> None:
    assert_failed(rig.unlock(packed.path, "a wrong password"), "LOGIN_REJECTED")
    assert rig.device.api.requests("GET") == []
    assert rig.loads == []
    assert not rig.device.tar.exists()
    assert rig.operator.unlock() == READY


def test_an_unreachable_api_ends_the_unlock(unlock_device: UnlockDevice, docker: Engine, packed: Packed) -> None:
    unlock_device.put(packed.path)
    operator = unlock_device.start(docker.host, RESOURCE_API_URL=NOBODY_LISTENS)
    assert_failed(operator.unlock(), "API_UNREACHABLE")
    assert not unlock_device.tar.exists()


def test_an_api_without_a_key_fragment_ends_the_unlock_until_it_has_one(
    unlock_device: UnlockDevice, resource_api: ResourceApiServer, docker: Engine, packed: Packed
) -> None:
    resource_api.add_user(EMAIL, PASSWORD)
    unlock_device.put(packed.path)
    operator = unlock_device.start(docker.host, RESOURCE_API_URL=resource_api.url)
    assert_failed(operator.unlock(), "KEY_MISMATCH")
    assert operator.get("/status")["authenticated"] is True
    resource_api.set_fragment(FRAGMENT)
    assert operator.unlock() == READY
