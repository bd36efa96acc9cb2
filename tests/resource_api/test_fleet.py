"""Many simulated devices at once: all of them get everything. Their times are measured in benchmarks/fleet.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.api_process import served
from benchmarks.fleet_site import SMALL_PARTS, balanced, make_fleet, password_of, plan, simulated
from tests.support.nginx_server import require_nginx
from tests.support.processes import poll

DEVICES = 30
SECONDS = 30.0
REQUESTS = {"login": DEVICES, "fragment": DEVICES, "head": DEVICES, "small part": SMALL_PARTS * DEVICES}


@pytest.mark.parametrize("kind", ["secrets", "passwords"])
def test_every_device_gets_everything(tmp_path: Path, kind: str) -> None:
    data, devices = make_fleet(tmp_path / "data", DEVICES)
    if kind == "passwords":
        devices = [password_of(name) for name, _ in devices[:10]]
    with served(tmp_path / "api", data) as api, simulated(plan(data, api.address, devices, 1.0)) as reports:
        pass
    assert (reports[0]["complete"], reports[0]["troubles"]) == (len(devices), {})
    taken = {request: len(seconds) for request, seconds in reports[0]["taken"].items()}
    share = len(devices) / DEVICES
    assert taken == {request: number * share for request, number in REQUESTS.items()} | dict.fromkeys(
        ("big part", "device"), len(devices)
    )


def test_every_device_gets_everything_while_one_of_two_processes_is_killed(tmp_path: Path) -> None:
    require_nginx()
    data, devices = make_fleet(tmp_path / "data", DEVICES)
    with balanced(tmp_path / "site", data) as (address, apis):
        with simulated(plan(data, address, devices, 2.0)) as reports:
            poll(lambda: apis[0].log().count("fragment") >= DEVICES // 4, SECONDS, "some devices have begun")
            apis[0].kill()
        assert apis[0].log().count("big_part") < DEVICES  # it was killed in the middle
    assert reports[0]["complete"] == DEVICES
