"""The plan of an unlock behind a proxy that forbids what an unlock needs: nginx, before a real engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from loader.docker_engine import DockerEngine
from tests.support.archives import tags_of_tests
from tests.support.engines import Engine
from tests.support.fake_engine import FakeCall, FakeEngine
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive, seal
from tests.support.recording_proxy import RecordingProxy
from tests.support.socket_proxy import socket_proxy
from tests.unlock.plan.planning import plan

pytest_plugins = ("tests.support.unlock_fixtures",)

IMAGE = HandmadeImage("azaion-test/proxied:1", (HandmadeLayer(b"p" * 1000, 5),))
REFUSED = ["POST /images/load", "POST /images/{name}/tag", "DELETE /images/{name}"]


@pytest.fixture
def proxied(docker: Engine, tmp_path: Path) -> Callable[..., AbstractContextManager[str]]:
    """Start a proxy before the engine; see `socket_proxy`."""
    return partial(socket_proxy, tmp_path / "nginx", docker.socket)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An archive of `IMAGE`."""
    return seal(tmp_path / "images.enc", [IMAGE])


def test_the_plan_tells_what_a_proxy_will_refuse(
    path: Path, docker: Engine, proxied: Callable[..., AbstractContextManager[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxied() as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        warnings = plan(path, DockerEngine(5)).warnings
    assert warnings == tuple(
        f"The Docker engine at {host}, or a proxy in front of it, refuses {request}: 403 Forbidden."
        for request in REFUSED
    )
    assert tags_of_tests(docker) == []


def test_a_proxy_that_looks_like_the_engine_and_forbids_only_loads_is_found(
    path: Path, proxied: Callable[..., AbstractContextManager[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """HAProxy and others pass on the header by which an engine calls itself."""
    with proxied("proxy_pass_header Server;", "location ~ /images/load { return 403; }") as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        (warning,) = plan(path, DockerEngine(5)).warnings
    assert "refuses POST /images/load: 403" in warning


def test_an_authorization_plugin_is_found(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake, which responds as Docker does for its plugins; no package of Debian has one."""

    def deny(call: FakeCall) -> None:
        call.respond(403, {"message": "authorization denied by plugin guard: no loads"})

    with FakeEngine(tmp_path / "fake.sock", deny) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        warnings = plan(path, DockerEngine(5)).warnings
    assert [warning.partition(": ")[2] for warning in warnings] == [
        "authorization denied by plugin guard: no loads."
    ] * 3


def test_the_plan_has_no_such_warning_if_nothing_is_refused(
    path: Path, proxied: Callable[..., AbstractContextManager[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxied("") as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        assert plan(path, DockerEngine(5)).warnings == ()


def test_a_plan_that_is_done_only_looks(
    path: Path, docker: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.client.images.load(b"".join(docker_archive(IMAGE)))
    with RecordingProxy(tmp_path / "docker.sock", docker.socket) as proxy:
        monkeypatch.setenv("DOCKER_HOST", proxy.host)
        made = plan(path, DockerEngine(5))
        assert {request.method for request in proxy.requests} == {"GET"}
    assert (made.done, made.warnings) == (True, ())
