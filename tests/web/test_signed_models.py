"""Signed models from one loader to another, by SIGNING_KEY of the first and PUBLISHER_KEYS of the second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from loader.crypto.model_parts import ResourceName
from tests.support.faulty_api import FaultyApi
from tests.support.http_calls import load, login, upload
from tests.support.processes import poll
from tests.support.publishers import ANNA, EVE, write_key, write_publishers
from tests.support.signed_models import signed_model
from tests.support.sites import LOG_SECONDS, BareSite, bare_site

CONTENT = bytes(range(256)) * 16_384


@dataclass(frozen=True)
class Fleet:
    """An API, a training machine with ANNA's key, one with EVE's, and a device that trusts ANNA and BEN."""

    api: FaultyApi
    publisher: BareSite
    stranger: BareSite
    device: BareSite


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Start all of them; each loader is logged in."""
    directory = tmp_path_factory.mktemp("fleet")
    keys = {"anna": ANNA, "eve": EVE}
    envs = {f"{name}/": {"SIGNING_KEY": str(write_key(directory / f"{name}.key", key))} for name, key in keys.items()}
    envs["device/"] = {"PUBLISHER_KEYS": str(write_publishers(directory / "publishers"))}
    with FaultyApi() as api, ExitStack() as stack:
        sites = []
        for name, env in envs.items():
            (directory / name).mkdir()
            sites.append(stack.enter_context(bare_site(directory / name, api.url, **env)))
            assert login(sites[-1].url).status == 200
        yield Fleet(api, *sites)


def outcomes(site: BareSite, filename: str, count: int) -> list[tuple[str, str | None]]:
    """Wait for the audit lines of so many loads of a model, and return their outcomes."""

    def lines() -> list[dict[str, Any]]:
        return [line for line in site.audit_lines("load") if line["file"] == filename]

    poll(lambda: len(lines()) == count, LOG_SECONDS, f"{count} audit lines of {filename}")
    return [(line["outcome"], line.get("code")) for line in lines()]


@pytest.mark.parametrize("content", [b"content", CONTENT], ids=["small", "big"])
def test_a_model_of_a_publisher_arrives(fleet: Fleet, content: bytes) -> None:
    assert upload(fleet.publisher.url, "m", "x", content).status == 200
    for _ in range(2):
        assert load(fleet.device.url, "m", "x").body == content
    assert upload(fleet.publisher.url, "m", "x", content[::-1]).status == 200
    assert load(fleet.device.url, "m", "x").body == content[::-1]


def test_a_model_of_a_stranger_is_refused_before_the_first_byte(fleet: Fleet) -> None:
    assert upload(fleet.stranger.url, "m", "y", CONTENT).status == 200
    problem = load(fleet.device.url, "m", "y").problem(500, "UNTRUSTED_PUBLISHER")
    assert "SIGNING_KEY" in problem["hint"]
    assert outcomes(fleet.device, "m/y", 1) == [("failed", "UNTRUSTED_PUBLISHER")]
    # A loader without PUBLISHER_KEYS asks for no signature.
    assert load(fleet.publisher.url, "m", "y").body == CONTENT


def test_an_older_model_is_refused(fleet: Fleet) -> None:
    new, old = (signed_model(CONTENT, serial, name=ResourceName("m", "z")) for serial in (2, 1))
    fleet.api.objects.update(new.as_objects())
    assert load(fleet.device.url, "m", "z").body == CONTENT
    fleet.api.objects.update(old.as_objects())
    problem = load(fleet.device.url, "m", "z").problem(500, "ROLLBACK")
    for told in ("serial 1 of 2026-03-01T12:00:00Z", "serial 2 of 2026-03-02T12:00:00Z"):
        assert told in problem["detail"]
    assert outcomes(fleet.device, "m/z", 2) == [("ok", None), ("failed", "ROLLBACK")]
