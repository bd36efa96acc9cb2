"""`load` and `upload` with a faulty loader or network. The loader is a fake, because a real one has no such faults."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loader.cli import client as device_client
from loader.cli.main import main
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.http_calls import EMAIL
from tests.support.loader_server import COMMAND, REPOSITORY
from tests.support.processes import ManagedProcess, clean_env
from tests.support.sites import NOBODY_LISTENS

SECONDS = 20.0
MIB = 1 << 20
CONTENT = bytes(range(256)) * 4096 * 2


@pytest.fixture
def fake() -> Iterator[FaultyApi]:
    """A fake loader whose loads fail."""
    with FaultyApi() as running:
        yield running


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An existing file, alone in its directory."""
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "model"
    path.write_bytes(b"old")
    return path


def load(url: str, output: Path) -> Result:
    return CliRunner().invoke(main, ["load", "day/model", "-o", str(output), "--url", url])


def assert_untouched(output: Path) -> None:
    assert output.read_bytes() == b"old"
    assert list(output.parent.iterdir()) == [output]


def test_a_complete_load_replaces_the_file(fake: FaultyApi, output: Path) -> None:
    fake.answer("GET", "/models/day/model", Fault(body=CONTENT))
    assert load(fake.url, output).exit_code == 0
    assert output.read_bytes() == CONTENT
    assert "range" not in fake.requests()[0].headers


CUT = "ANSWER_CUT"
UNREACHABLE = "LOADER_UNREACHABLE"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(body=CONTENT, cut_after=0), CUT),
        (Fault(body=CONTENT, cut_after=MIB + 1), CUT),
        (Fault(body=CONTENT, announced=len(CONTENT) + 1), CUT),
        (Fault(body=CONTENT, announced=-1), UNREACHABLE),
        (Fault(body=b"5\r\nhello\r\n0\r\n\r\n", headers={"Transfer-Encoding": "chunked"}), UNREACHABLE),
        (Fault(body=b"<html>", headers={"Content-Type": "text/html"}), UNREACHABLE),
        (Fault(302, headers={"Location": "http://127.0.0.1:9/"}), UNREACHABLE),
        (Fault(500, body=b"<html>"), UNREACHABLE),
    ],
    ids=["cut at once", "cut", "a byte short", "no length", "chunked", "another type", "redirect", "no problem"],
)
def test_an_incomplete_load_changes_nothing(fake: FaultyApi, output: Path, fault: Fault, code: str) -> None:
    fake.answer("GET", "/models/day/model", fault)
    result = load(fake.url, output)
    assert (result.exit_code, result.stdout) == (3, "")
    assert f"({code})" in result.stderr
    assert_untouched(output)


@pytest.mark.parametrize("at", [0, MIB])
def test_a_load_fails_when_the_loader_falls_silent(
    fake: FaultyApi, output: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(device_client, "SILENCE_SECONDS", 0.3)
    fake.answer("GET", "/models/day/model", Fault(body=CONTENT, stall_after=at))
    result = load(fake.url, output)
    assert result.exit_code == 3
    assert re.search(rf"fell silent after \d+ of {len(CONTENT)} bytes. \(ANSWER_CUT\)", result.stderr)
    assert_untouched(output)


@pytest.mark.parametrize("path", ["/models/day/model", "/upload/model", "/cache/verify", "/login"])
def test_patient_requests_wait_for_a_slow_loader(
    fake: FaultyApi, output: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Other requests time out after the same silence."""
    monkeypatch.setattr(device_client, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(device_client, "SILENCE_SECONDS", 0.4)
    body = b'{"status": "ok", "checked": 0, "bytes": 0, "damaged": []}'
    fake.answer("GET" if path.startswith("/models") else "POST", path, Fault(body=body, silent=True))
    fake.answer("POST", "/upload/model/offset", Fault(body=b'{"offset": 0, "complete": false}'))
    fake.answer("GET", "/cache", Fault(body=b"{}", silent=True))
    arguments = {
        "/models/day/model": ["load", "day/model", "-o", str(output)],
        "/upload/model": ["upload", str(output), "day"],
        "/cache/verify": ["cache", "verify"],
        "/login": ["login", "--email", EMAIL],
    }[path]
    impatient = CliRunner().invoke(main, ["cache", "list", "--url", fake.url])
    assert (impatient.exit_code, impatient.stderr.partition("\n")[0][-20:]) == (3, "(LOADER_UNREACHABLE)")
    timer = threading.Timer(0.8, fake.resume)
    timer.start()
    result = CliRunner().invoke(main, [*arguments, "--url", fake.url], input="password\n")
    timer.join()
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "fault",
    [Fault(body=b"<html>"), Fault(201, body=b"{}"), Fault(302, body=b"{}")],
    ids=lambda fault: str(fault.status),
)
def test_an_upload_fails_when_the_response_is_not_that_of_a_loader(fake: FaultyApi, output: Path, fault: Fault) -> None:
    fake.answer("POST", "/upload/model", fault)
    result = CliRunner().invoke(main, ["upload", str(output), "day", "--url", fake.url])
    assert result.exit_code in (1, 3), result.output
    assert result.stdout == ""


def test_an_unreachable_loader_changes_no_file(output: Path) -> None:
    result = load(NOBODY_LISTENS, output)
    assert result.exit_code == 3
    assert_untouched(output)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str)
def test_an_interrupted_load_leaves_nothing(
    fake: FaultyApi, output: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    fake.answer("GET", "/models/day/model", Fault(body=CONTENT, stall_after=MIB))
    # The tests themselves may run under nohup.
    command = ["env", "--default-signal=HUP", *COMMAND, "load", "day/model", "-o", str(output), "--url", fake.url]
    with ManagedProcess("load", command, tmp_path, env=clean_env(tmp_path), cwd=REPOSITORY) as process:
        process.wait_until(lambda: len(list(output.parent.iterdir())) > 1, SECONDS, "the temporary file")
        (temporary,) = set(output.parent.iterdir()) - {output}
        assert temporary.stat().st_mode & 0o777 == 0o600
        process.wait_until(lambda: temporary.stat().st_size > MIB // 2, SECONDS, "bytes arrive")
        process.send_signal(number)
        assert process.wait(SECONDS) == code
    assert_untouched(output)
    assert "Traceback" not in process.stderr()


def test_nohup_protects_a_load_from_sighup(fake: FaultyApi, output: Path, tmp_path: Path) -> None:
    fake.answer("GET", "/models/day/model", Fault(body=CONTENT, stall_after=MIB))
    command = ["nohup", *COMMAND, "load", "day/model", "-o", str(output), "--url", fake.url]
    with ManagedProcess("load", command, tmp_path, env=clean_env(tmp_path), cwd=REPOSITORY) as process:
        process.wait_until(lambda: len(list(output.parent.iterdir())) > 1, SECONDS, "the temporary file")
        process.send_signal(signal.SIGHUP)
        fake.resume()
        assert process.wait(SECONDS) == 0, process.stderr()
    assert output.read_bytes() == CONTENT


def test_an_upload_that_another_one_replaces_again_and_again_ends(fake: FaultyApi, output: Path) -> None:
    problem = {"status": 409, "code": "UPLOAD_MISMATCH", "detail": "other bytes", "hint": "again", "retryable": False}
    headers = {"Content-Type": "application/problem+json"}
    fake.answer_all("POST", Fault(409, headers=headers, body=json.dumps(problem).encode()))
    fake.answer("POST", "/upload/model/offset", Fault(body=b'{"offset": 0, "complete": false}'))
    result = CliRunner().invoke(main, ["upload", str(output), "day", "--url", fake.url])
    assert (result.exit_code, "UPLOAD_MISMATCH" in result.stderr) == (4, True)
    assert len([seen for seen in fake.requests("POST") if seen.path == "/upload/model"]) == 4
