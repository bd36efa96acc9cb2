"""deploy/compose.yaml as a text: it is valid, and grants no privilege that is not needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from loader.server import gunicorn_conf
from loader.settings import variables
from tests.deploy.composed import COMPOSE_FILE, compose
from tests.support.loader_server import REPOSITORY

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
NEEDED = {"RESOURCE_API_URL": "https://api.example", "API_VERSION": "1.4", "DOCKER_GID": "999"}


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
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(described)


def test_only_nginx_has_a_port_and_only_on_loopback() -> None:
    assert not {"ports", "expose"} & set(SERVICES["loader"])
    assert SERVICES["loader"]["environment"]["LOADER_BIND"].startswith("unix:/run/azaion-loader/")
    assert [port.split(":")[0] for port in SERVICES["nginx"]["ports"]] == ["127.0.0.1"]


def test_the_loader_reads_every_variable_that_it_gets() -> None:
    # LOADER_URL is for the commands that are run in its container.
    assert set(SERVICES["loader"]["environment"]) <= {variable.name for variable in variables().values()} | {
        "LOADER_URL"
    }


def test_the_loader_trusts_the_names_that_nginx_answers_to() -> None:
    names = set(re.findall(r"^ *server_name (\S+);", (REPOSITORY / "deploy/nginx.conf").read_text(), re.MULTILINE))
    assert names - {"_"} <= set(SERVICES["loader"]["environment"]["TRUSTED_HOSTS"].split(","))


def test_the_engine_waits_for_longer_than_gunicorn_does() -> None:
    assert int(SERVICES["loader"]["stop_grace_period"].removesuffix("s")) > gunicorn_conf.graceful_timeout


def test_podman_takes_no_option_of_the_volume_for_a_quota() -> None:
    """podman reads `size` and `inodes` as a quota of the project, which few file systems have."""
    options = yaml.safe_load(COMPOSE_FILE.read_text())["volumes"]["socket"]["driver_opts"]["o"]
    names = {option.partition("=")[0] for option in options.split(",")}
    assert names == {"uid", "gid", "mode", "nr_blocks"}
