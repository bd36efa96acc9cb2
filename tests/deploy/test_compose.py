"""deploy/compose.yaml as a text: it is valid, and gives away no more than it must."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from loader.settings import variables
from tests.support.composed import COMPOSE_FILE, compose
from tests.support.loader_server import REPOSITORY

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
NEEDED = {"RESOURCE_API_URL": "https://api.example", "API_VERSION": "1.4", "DOCKER_GID": "999"}


def test_compose_accepts_it(tmp_path: Path) -> None:
    done = compose(tmp_path, [COMPOSE_FILE], "config", "--quiet", **NEEDED)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("name", NEEDED)
def test_compose_says_what_it_must_be_told(tmp_path: Path, name: str) -> None:
    others = {other: value for other, value in NEEDED.items() if other != name}
    done = compose(tmp_path, [COMPOSE_FILE], "config", "--quiet", **others)
    assert done.returncode != 0
    assert name in done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_has_rights(service: str) -> None:
    described = SERVICES[service]
    assert described["read_only"] is True
    assert described["cap_drop"] == ["ALL"]
    assert described["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(described)


def test_the_loader_is_reached_through_nginx_only_and_that_from_this_device_only() -> None:
    assert not {"ports", "expose"} & set(SERVICES["loader"])
    assert SERVICES["loader"]["environment"]["LOADER_BIND"].startswith("unix:/run/azaion-loader/")
    assert [port.split(":")[0] for port in SERVICES["nginx"]["ports"]] == ["127.0.0.1"]


def test_the_loader_is_told_nothing_that_it_does_not_read() -> None:
    # LOADER_URL is for the commands that are run in its container.
    assert set(SERVICES["loader"]["environment"]) <= {variable.name for variable in variables().values()} | {
        "LOADER_URL"
    }


def test_the_loader_trusts_the_names_that_nginx_answers_to() -> None:
    names = set(re.findall(r"^ *server_name (\S+);", (REPOSITORY / "deploy/nginx.conf").read_text(), re.MULTILINE))
    assert names - {"_"} <= set(SERVICES["loader"]["environment"]["TRUSTED_HOSTS"].split(","))


def test_the_engine_waits_for_longer_than_gunicorn_does() -> None:
    (graceful,) = re.findall(r"^graceful_timeout = (\d+)$", (REPOSITORY / "gunicorn.conf.py").read_text(), re.MULTILINE)
    assert int(SERVICES["loader"]["stop_grace_period"].removesuffix("s")) > int(graceful)
