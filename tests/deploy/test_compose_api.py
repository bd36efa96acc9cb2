"""deploy/compose-api.yaml and deploy/compose-api-store.yaml as texts: valid, and without needless privileges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from resource_api import gunicorn_conf
from tests.deploy.composed import compose
from tests.deploy.composed_api import COMPOSE_FILE, SERVERS, STORE_FILE

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
WITH_STORE: dict[str, Any] = yaml.safe_load(STORE_FILE.read_text())
NEEDED = {"STATE_DIR": "/srv/resource-api", "TLS_DIR": "/etc/azaion-resource-api/tls"}
NEEDED_BY_STORE = {**NEEDED, "STORE_IMAGE": "store", "STORE_KEYS": "/srv/store-keys"}


@pytest.mark.parametrize(("files", "env"), [([COMPOSE_FILE], NEEDED), ([COMPOSE_FILE, STORE_FILE], NEEDED_BY_STORE)])
def test_compose_accepts_them(tmp_path: Path, files: list[Path], env: dict[str, str]) -> None:
    done = compose(tmp_path, files, "config", "--quiet", **env)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("name", NEEDED_BY_STORE)
def test_compose_names_a_variable_that_is_missing(tmp_path: Path, name: str) -> None:
    files = [COMPOSE_FILE] if name in NEEDED else [COMPOSE_FILE, STORE_FILE]
    others = {other: value for other, value in NEEDED_BY_STORE.items() if other != name}
    done = compose(tmp_path, files, "config", "--quiet", **others)
    assert done.returncode != 0
    assert name in done.stderr


@pytest.mark.parametrize("service", [*SERVICES, "store"])
def test_no_service_has_privileges(service: str) -> None:
    described = SERVICES.get(service) or WITH_STORE["services"][service]
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


def test_a_new_volume_is_filled_by_one_container_at_a_time() -> None:
    starts = [SERVICES[service].get("depends_on", []) for service in SERVERS]
    assert starts == [[], [SERVERS[0]]]


def test_with_a_store_the_servers_are_in_the_network_of_the_store_only() -> None:
    (network,) = WITH_STORE["networks"].values()
    assert network["internal"] is True
    for service in SERVERS:
        described = WITH_STORE["services"][service]
        assert described["network_mode"] == network["name"]
        assert "networks" not in described
    assert WITH_STORE["services"]["store"]["networks"] == list(WITH_STORE["networks"])
    assert "ports" not in WITH_STORE["services"]["store"]
