"""What the loader says about itself: the API learns the device and the release, and nobody that it redirects to."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from loader.api_client.client import ApiClient
from loader.crypto.archive_seals import key_check
from loader.errors import ResourceNotFound
from loader.settings import BadSettings, Settings
from resource_api.accounts import Role
from tests.api_client.conftest import TIMEOUTS
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.resource_api_server import ResourceApiServer

FRAGMENT = bytes(range(32))


def test_every_request_names_the_device_and_that_for_a_fragment_the_release(tmp_path: Path) -> None:
    with ResourceApiServer(tmp_path) as api:
        api.add_user(EMAIL, PASSWORD, Role.PUBLISHER)
        api.set_fragment(FRAGMENT)
        client = ApiClient(api.url, ca_bundle=None, timeouts=TIMEOUTS, device_name="orin-7")
        client.login(EMAIL, PASSWORD)
        client.key_fragment(key_check(FRAGMENT), "1.4")
        client.put_object("x.small", b"small")
        client.small_object("x.small")
        seen = api.requests()
    assert len(seen) == 4
    assert {each.headers["AZAION-DEVICE"] for each in seen} == {"orin-7"}
    assert [each.headers.get("AZAION-RELEASE") for each in seen] == [None, "1.4", None, None]


def test_a_server_that_the_api_redirects_to_learns_no_name(api: FaultyApi, elsewhere: FaultyApi) -> None:
    client = ApiClient(api.url, ca_bundle=None, timeouts=TIMEOUTS, device_name="orin-7")
    client.login("operator@example.org", "planted-password")
    api.answer("GET", "/resources/x", Fault(302, headers={"Location": f"{elsewhere.url}/x"}))
    elsewhere.answer("GET", "/x", Fault(404))
    with pytest.raises(ResourceNotFound):
        client.small_object("x")
    (own,), (other,) = api.requests("GET"), elsewhere.requests("GET")
    assert (own.headers["azaion-device"], "azaion-device" in other.headers) == ("orin-7", False)


def test_the_default_is_the_host_name_as_a_header_can_carry_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for host, name in (("orin-7.lan", "orin-7.lan"), ("é b\n", "--b-"), ("", "unknown"), ("x" * 200, "x" * 128)):
        monkeypatch.setattr(os, "uname", lambda host=host: SimpleNamespace(nodename=host))
        assert Settings.from_env({}).device_name == name


@pytest.mark.parametrize("name", ["two words", "x" * 129, "é", "a\n"])
def test_a_name_that_no_header_can_carry_is_refused(name: str) -> None:
    with pytest.raises(BadSettings, match="DEVICE_NAME"):
        Settings.from_env({"DEVICE_NAME": name})
