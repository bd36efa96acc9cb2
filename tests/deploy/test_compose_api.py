"""deploy/compose-api.yaml as a text: it is valid, and grants no privilege that is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from resource_api import gunicorn_conf
from tests.deploy.composed import compose
from tests.support.loader_server import REPOSITORY

COMPOSE_FILE = REPOSITORY / "deploy" / "compose-api.yaml"
SERVERS = ("api-1", "api-2")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
NEEDED = {"STATE_DIR": "/srv/resource-api", "TLS_DIR": "/etc/azaion-resource-api/tls"}


def test_compose_accepts_it(tmp_path: Path) -> None:
    done = compose(tmp_path, [COMPOSE_FILE], "config", "--quiet", **NEEDED)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("name", NEEDED)
def test_compose_names_a_variable_that_is_missing(tmp_path: Path, name: str) -> None:
    others = {other: value for other, value in NEEDED.items() if other != name}
    done = compose(tmp_path, [COMPOSE_FILE], "config", "--quiet", **others)
    assert done.returncode != 0
    assert name in done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_has_privileges(service: str) -> None:
    described = SERVICES[service]
    assert described["read_only"] is True
    assert described["cap_drop"] == ["ALL"]
    assert described["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "ipc", "devices"} & set(described)


@pytest.mark.parametrize("service", SERVERS)
def test_a_server_has_its_state_read_only_no_network_and_time_to_stop(service: str) -> None:
    described = SERVICES[service]
    assert described["network_mode"] == "none"
    assert [volume for volume in described["volumes"] if volume.endswith(":/srv/resource-api:ro")]
    assert int(described["stop_grace_period"].removesuffix("s")) > gunicorn_conf.graceful_timeout
