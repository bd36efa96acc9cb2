"""deploy/nginx-api.conf in front of two processes of the resource API, and deploy/azaion-resource-api.service."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.deploy.api_site import FRAGMENT, SECONDS, Site, api_site
from tests.support.loader_server import REPOSITORY
from tests.support.missing import missing
from tests.support.nginx_server import adapted
from tests.support.processes import poll

DEPLOY = REPOSITORY / "deploy"
UNIT = DEPLOY / "azaion-resource-api.service"
PROGRAM = "/srv/azaion-resource-api/.venv/bin/azaion-resource-api"
REQUESTS = 60


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with api_site(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose processes no test kills, and without a limit for logins."""
    with api_site(tmp_path_factory.mktemp("shared"), {"rate=1r/s": "rate=100r/s"}) as running:
        yield running


def test_every_request_succeeds_while_one_of_two_processes_is_killed(site: Site) -> None:
    bearer = site.bearer()

    def read(number: int) -> tuple[int, bytes]:
        if number == REQUESTS // 2:
            os.kill(site.apis[0].worker(), signal.SIGKILL)
            os.kill(site.apis[0].process.pid, signal.SIGKILL)
        try:
            return site.call("GET", "/binary-split/key-fragment", None, **bearer)
        except http.client.IncompleteRead:
            # nginx has passed the head of the response on when the process dies before the body: clients ask again.
            return site.call("GET", "/binary-split/key-fragment", None, **bearer)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(read, range(REQUESTS))) == {(200, FRAGMENT)}
    assert site.login(site.secret)[0] == 200


def test_uploads_pass_and_the_log_of_the_api_has_the_client(site: Site) -> None:
    bearer, content = site.bearer(), bytes(1 << 20)
    assert site.call("PUT", "/resources/models/x.small", content, **bearer, **{"X-Request-ID": "up"})[0] == 201
    assert site.call("GET", "/resources/models/x.small", None, **bearer) == (200, content)

    def lines() -> list[str]:
        return [line for api in site.apis for line in api.process.stderr().splitlines() if '"request_id": "up"' in line]

    poll(lines, SECONDS, "the audit line")
    assert json.loads(lines()[0])["client"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(("GET", "/resources", 200), ("GET", "/resources?prefix=models", 200), ("POST", "/uploads", 415)),
        *(("GET", "/uploads/none", 404), ("PUT", "/uploads/none/parts/1", 404)),
    ],
)
def test_every_path_reaches_the_api(shared: Site, method: str, path: str, status: int) -> None:
    assert shared.call(method, path, None, **shared.bearer())[0] == status


def test_a_part_of_an_upload_is_taken(shared: Site) -> None:
    bearer, size = shared.bearer(), 9 << 20
    document = json.dumps({"name": "models/parts", "size": size}).encode()
    begun = shared.call("POST", "/uploads", document, **bearer, **{"Content-Type": "application/json"})
    path = f"/uploads/{json.loads(begun[1])['upload']}/parts/1"
    assert shared.call("PUT", path, bytes(8 << 20), **bearer)[0] == 200


def test_guesses_are_limited_and_counters_stay_inside(site: Site) -> None:
    with ThreadPoolExecutor(20) as pool:
        statuses = set(pool.map(lambda _: site.login("guess")[0], range(20)))
    assert statuses == {401, 503}
    assert site.call("GET", "/metrics")[0] == 404


def analyze(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze on the unit, with its program replaced by one that exists."""
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze", "the program is not installed")
    unit = directory / UNIT.name
    unit.write_text(adapted(UNIT.read_text(), {PROGRAM: str(shutil.which("true"))}))
    return subprocess.run(["systemd-analyze", *command, str(unit)], capture_output=True, text=True, check=False)


def test_systemd_accepts_and_confines_the_api(tmp_path: Path) -> None:
    done = analyze(tmp_path, "verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert analyze(tmp_path, "security", "--offline=true", "--threshold=20").returncode == 0
