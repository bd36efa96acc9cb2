"""An unlock through a proxy that forbids to load images: nginx, before a real engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loader.docker_engine.reasons import FORBIDDEN_HINT
from tests.support.archives import Packed, tags_of_tests
from tests.support.engines import Engine
from tests.support.socket_proxy import socket_proxy
from tests.unlock.conftest import assert_failed
from tests.unlock.watched_device import MODES, watched_device

pytest_plugins = ("tests.support.unlock_fixtures",)


@pytest.mark.parametrize("mode", MODES)
def test_an_unlock_says_what_the_proxy_refused(docker: Engine, packed: Packed, tmp_path: Path, mode: str) -> None:
    with (
        socket_proxy(tmp_path / "nginx", docker.socket) as host,
        watched_device(tmp_path, replace(docker, host=host), mode) as watched,
    ):
        status = watched.unlock(packed.path.read_bytes())
        document = watched.operator.document()
        watched.assert_no_plaintext()
    assert_failed(status, "ENGINE_REJECTED")
    assert str(status.error).endswith(", or a proxy in front of it, refused the images: 403 Forbidden.")
    assert document["hint"] == FORBIDDEN_HINT
    assert tags_of_tests(docker) == []
