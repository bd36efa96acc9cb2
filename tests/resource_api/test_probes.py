"""GET /health and GET /metrics, with one process and with several, also while logins queue."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from resource_api.audit import AuditRecord
from resource_api.data_directory import DataDirectory
from resource_api.metrics import Metrics
from tests.resource_api.conftest import EMAIL, REPOSITORY, Api, Reply
from tests.support.processes import poll
from tests.support.procfs import children

SECONDS = 20
LOGINS = 12


def count(api: Api, kind: str, outcome: str) -> int:
    """Return a counter of requests."""
    text = api.call("GET", "/metrics").body.decode()
    found = re.search(rf'resource_api_requests_total{{kind="{kind}",outcome="{outcome}"}} (\d+)', text)
    assert found is not None
    return int(found[1])


def test_health_needs_no_login_and_notices_a_damaged_state(data: DataDirectory) -> None:
    with Api(data) as api:
        healthy = api.call("GET", "/health")
        assert (healthy.status, json.loads(healthy.body)) == (200, {"status": "ok"})
        users = data.users_file.read_bytes()
        data.users_file.write_bytes(b"{ damaged")
        assert str(data.root) not in str(api.call("GET", "/health").problem())
        assert api.call("GET", "/health").status == 503
        data.users_file.write_bytes(users)
        data.resources.rename(data.root / "elsewhere")
        assert api.call("GET", "/health").status == 503
        (data.root / "elsewhere").rename(data.resources)
        assert api.call("GET", "/health").status == 200
    assert '"event"' not in "".join(line for line in api.process.stderr().splitlines() if "health" in line)


def test_health_waits_for_no_login(api: Api) -> None:
    with ThreadPoolExecutor(LOGINS) as pool:
        logins = [pool.submit(api.login, EMAIL, f"guess {number}") for number in range(LOGINS)]
        assert api.call("GET", "/health").status == 200
        waited: list[Callable[[], Reply]] = [each.result for each in logins if not each.done()]
        assert len(waited) >= LOGINS // 2
        assert {each.result().status for each in logins} == {401}


def test_any_process_tells_the_counters_of_all_and_restarts_keep_them(data: DataDirectory) -> None:
    with Api(data, WEB_CONCURRENCY="3") as api:
        workers = children(api.process.pid)
        for _ in range(10):
            assert api.call("GET", "/resources").status == 401
        poll(lambda: count(api, "list", "refused") == 10, SECONDS, "all are counted")
        assert {count(api, "list", "refused") for _ in range(10)} == {10}
        os.kill(api.process.pid, signal.SIGHUP)
        poll(lambda: not set(workers) & set(children(api.process.pid)), SECONDS, "new workers")
        assert count(api, "list", "refused") == 10


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.0051, 60.0, 61.0])
def test_durations_fall_into_the_buckets_of_their_limits(seconds: float) -> None:
    metrics = Metrics()
    metrics.observe(AuditRecord("id", "-", None, None, event="login", outcome="done", bytes=7, seconds=seconds))
    metrics.use_slot(1)
    metrics.observe(AuditRecord("id", "-", None, None, event="of another kind", outcome="cut", seconds=seconds))
    text = metrics.text()
    buckets = re.findall(r'_bucket{kind="login",le="(.+?)"} (\d)', text)
    assert [int(value) for _, value in buckets] == [int(seconds <= float(limit)) for limit, _ in buckets]
    assert 'resource_api_requests_total{kind="other",outcome="cut"} 1' in text
    assert 'resource_api_bytes_total{kind="login"} 7' in text


@pytest.mark.parametrize("arguments", [["--version"], ["serve", "--help"], ["audit", "--help"]])
def test_the_command_explains_itself(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "resource_api", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
