"""`azaion-loader load -o` continues where it was cut, does nothing for a model that is here, and waits."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from loader.cli import loaded_file
from tests.cli.cli_runs import invoke
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.http_calls import EMAIL, PASSWORD, call, login, upload
from tests.support.loader_server import COMMAND, REPOSITORY
from tests.support.processes import ManagedProcess, clean_env
from tests.support.sites import BareSite, Site, bare_site, real_site

MIB = 1 << 20
SIZE = 3 * MIB + 77
CONTENT = (bytes(range(251)) * 4096 * 4)[:SIZE]
OTHER = CONTENT[::-1]
ETAG = f'"{"a" * 64}"'
NAMED = {"ETag": ETAG}
SECONDS = 20.0
PATH = "/models/day/model"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A loader that is logged in at a reference API, which has `day/model`."""
    with real_site(tmp_path_factory.mktemp("site")) as running:
        assert upload(running.url, "day", "model", CONTENT).status == 200
        yield running


@pytest.fixture
def fake() -> Iterator[FaultyApi]:
    """A fake loader, because a real one makes no such faults on demand."""
    with FaultyApi() as running:
        yield running


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The path for a loaded model, in an empty directory."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "model"


def load(url: str, output: Path, *arguments: str) -> Result:
    return invoke(url, "load", "day/model", "-o", str(output), *arguments)


def partial(output: Path, etag: str) -> Path:
    return output.with_name(f".model.{etag.strip(chr(34))}.partial")


def etag_of(site: BareSite) -> str:
    before = len(site.audit_lines("load"))
    etag = call(site.url, "HEAD", PATH).headers["ETag"]
    # Otherwise its audit line may come after that of the next load.
    site.next_audit_line("load", before)
    return str(etag)


def loaded(site: BareSite, output: Path, *arguments: str) -> tuple[str, int]:
    """Load, and return the result's text and how many bytes the loader has sent for it."""
    before = len(site.audit_lines("load"))
    done = load(site.url, output, *arguments)
    assert done.exit_code == 0, done.output
    return done.stdout, int(site.next_audit_line("load", before)["bytes"])


def test_a_model_that_is_here_is_not_loaded_again(site: Site, output: Path) -> None:
    assert loaded(site, output)[1] == SIZE
    written = output.stat().st_mtime_ns
    assert loaded(site, output) == (f"{output}: unchanged\n", 0)
    document = json.loads(loaded(site, output, "--json")[0])
    assert document.pop("seconds") >= 0
    assert document == {"file": str(output), "bytes": SIZE, "unchanged": True}
    assert output.stat().st_mtime_ns == written


@pytest.mark.parametrize("change", ["file", "size", "note", "gone", "edition"])
def test_what_has_changed_is_loaded_again(site: Site, output: Path, change: str) -> None:
    loaded(site, output)
    if change == "file":
        output.write_bytes(OTHER)
        os.utime(output, ns=(1, 1))
    elif change == "size":
        os.truncate(output, SIZE - 1)
    elif change == "note":
        output.with_name(".model.etag").write_text("[" * 5000)
    elif change == "gone":
        output.unlink()
    else:
        assert upload(site.url, "day", "model", CONTENT).status == 200
    assert loaded(site, output)[1] == SIZE
    assert output.read_bytes() == CONTENT


@pytest.mark.parametrize("have", [1, 2, MIB + 1, SIZE - 1, SIZE])
def test_a_load_continues_where_the_last_one_was_cut(site: Site, output: Path, have: int) -> None:
    partial(output, etag_of(site)).write_bytes(CONTENT[:have])
    partial(output, ETAG).write_bytes(b"of another edition")
    os.utime(partial(output, ETAG), ns=(1, 1))
    sent = loaded(site, output)[1]
    # The last byte comes once more.
    assert sent == (SIZE if have == 1 else SIZE - have + 1)
    assert output.read_bytes() == CONTENT
    assert {path.name for path in output.parent.iterdir()} == {"model", ".model.etag"}


def test_another_edition_starts_at_its_first_byte(site: Site, output: Path) -> None:
    partial(output, ETAG).write_bytes(OTHER[:MIB])
    assert loaded(site, output)[1] == SIZE
    assert output.read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["link", "second name", "foreign"])
def test_bytes_that_may_be_of_somebody_else_are_not_used(site: Site, output: Path, kind: str) -> None:
    planted = partial(output, etag_of(site))
    (output.parent / "planted").write_bytes(OTHER[:MIB])
    if kind == "link":
        planted.symlink_to(output.parent / "planted")
    elif kind == "second name":
        planted.hardlink_to(output.parent / "planted")
    else:
        planted.write_bytes(OTHER[:MIB])
        os.chown(planted, 65534, 65534)
    assert loaded(site, output)[1] == SIZE
    assert output.read_bytes() == CONTENT
    assert (output.parent / "planted").read_bytes() == OTHER[:MIB]


def test_a_note_that_may_be_of_somebody_else_does_not_count(site: Site, output: Path) -> None:
    loaded(site, output)
    os.chown(output.with_name(".model.etag"), 65534, 65534)
    assert loaded(site, output)[1] == SIZE
    assert loaded(site, output)[1] == 0


def test_the_note_is_of_the_file_that_was_loaded_and_of_no_other(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two loads end at one moment: the file is that of the one, and the note would be that of the other."""

    def end_of_another_load(target: Path) -> None:
        target.write_bytes(OTHER)
        os.utime(target, ns=(1, 1))

    monkeypatch.setattr(loaded_file, "forget_begun", end_of_another_load)
    with loaded_file.loaded_file(output, ETAG, 0) as file:
        file.write(CONTENT)
    assert output.read_bytes() == OTHER
    assert loaded_file.known_etag(output) is None


def test_what_is_here_of_another_edition_makes_room_before_the_load(fake: FaultyApi, output: Path) -> None:
    stale = partial(output, ETAG.replace("a", "b"))
    stale.write_bytes(OTHER[:MIB])
    fake.answer("GET", PATH, Fault(body=CONTENT, cut_after=MIB, headers=NAMED))
    assert load(fake.url, output).exit_code == 3
    assert {path.name for path in output.parent.iterdir()} == {partial(output, ETAG).name}


def test_a_model_that_is_here_leaves_no_part_of_a_load(site: Site, output: Path) -> None:
    """Of two loads at a time one was cut after the other had ended."""
    loaded(site, output)
    partial(output, ETAG).write_bytes(OTHER[:MIB])
    assert loaded(site, output)[1] == 0
    assert {path.name for path in output.parent.iterdir()} == {"model", ".model.etag"}


def test_a_cut_load_keeps_what_has_come(fake: FaultyApi, output: Path) -> None:
    output.write_bytes(b"old")
    rest = {**NAMED, "Content-Range": f"bytes {MIB - 1}-{SIZE - 1}/{SIZE}"}
    fake.answer("GET", PATH, Fault(body=CONTENT, cut_after=MIB, headers=NAMED), Fault(206, CONTENT[MIB - 1 :], rest))
    cut = load(fake.url, output)
    assert (cut.exit_code, "(ANSWER_CUT)" in cut.stderr) == (3, True)
    assert output.read_bytes() == b"old"
    assert partial(output, ETAG).read_bytes() == CONTENT[:MIB]
    assert partial(output, ETAG).stat().st_mode & 0o777 == 0o600
    assert load(fake.url, output).exit_code == 0
    asked = fake.requests()[-1].headers
    assert (asked["range"], asked["if-range"]) == (f"bytes={MIB - 1}-", ETAG)
    assert output.read_bytes() == CONTENT
    assert not partial(output, ETAG).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_load_that_is_killed_is_continued_or_started_again(
    fake: FaultyApi, site: Site, output: Path, tmp_path: Path, number: signal.Signals
) -> None:
    fake.answer("GET", PATH, Fault(body=CONTENT, stall_after=MIB, headers={"ETag": etag_of(site)}))
    command = [*COMMAND, "load", "day/model", "-o", str(output), "--url", fake.url]
    with ManagedProcess("load", command, tmp_path, env=clean_env(tmp_path), cwd=REPOSITORY) as process:
        process.wait_until(
            lambda: any(path.stat().st_size > MIB // 2 for path in output.parent.iterdir()), SECONDS, "bytes arrive"
        )
        process.send_signal(number)
        process.wait(SECONDS)
    assert not output.exists()
    assert partial(output, etag_of(site)).exists() == (number == signal.SIGTERM)
    assert (loaded(site, output)[1] < SIZE) == (number == signal.SIGTERM)
    assert output.read_bytes() == CONTENT
    assert {path.name for path in output.parent.iterdir()} == {"model", ".model.etag"}


@pytest.mark.parametrize("told", [f"bytes 0-{SIZE - 1}/{SIZE}", f"bytes {MIB}-{SIZE - 1}/*", ""])
def test_another_range_than_the_one_asked_for_is_refused(fake: FaultyApi, output: Path, told: str) -> None:
    partial(output, ETAG).write_bytes(CONTENT[:MIB])
    fake.answer("GET", PATH, Fault(206, CONTENT[MIB:], {**NAMED, "Content-Range": told}))
    done = load(fake.url, output)
    assert (done.exit_code, "(LOADER_UNREACHABLE)" in done.stderr) == (3, True)
    assert not output.exists()


def problem(status: int, code: str, *, retryable: bool, **headers: str) -> Fault:
    document = {"code": code, "detail": f"It is {code}.", "hint": "Wait.", "retryable": retryable}
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(status, json.dumps(document).encode(), {"Content-Type": "application/problem+json", **headers})


BUSY = problem(503, "BUSY", retryable=True, Retry_After="1")
LOCKED = problem(401, "NOT_LOGGED_IN", retryable=False)
MISSING = problem(404, "RESOURCE_NOT_FOUND", retryable=False)
WHOLE = Fault(body=CONTENT, headers=NAMED)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between the attempts, none of which is made."""
    made: list[float] = []
    monkeypatch.setattr("loader.cli.waiting.time.sleep", made.append)
    return made


def test_what_may_pass_is_tried_again(fake: FaultyApi, output: Path, pauses: list[float]) -> None:
    unreachable = problem(503, "API_UNREACHABLE", retryable=True)
    fake.answer("GET", PATH, BUSY, LOCKED, unreachable, problem(429, "BUSY", retryable=True, Retry_After="0"), WHOLE)
    done = load(fake.url, output, "--wait", "60")
    assert done.exit_code == 0, done.output
    assert output.read_bytes() == CONTENT
    assert pauses[0] == 1
    assert [1 <= pause <= 2 for pause in pauses[1:]] == [True] * 3
    assert done.stderr.splitlines()[:3] == [
        "waiting: It is BUSY. (BUSY)",
        "waiting: It is NOT_LOGGED_IN. (NOT_LOGGED_IN)",
        "waiting: It is API_UNREACHABLE. (API_UNREACHABLE)",
    ]


@pytest.mark.parametrize(("fault", "arguments"), [(MISSING, ["--wait", "60"]), (BUSY, []), (LOCKED, ["--wait", "0"])])
def test_what_stays_and_what_is_not_waited_for_fails_at_once(
    fake: FaultyApi, output: Path, pauses: list[float], fault: Fault, arguments: list[str]
) -> None:
    fake.answer("GET", PATH, fault, WHOLE)
    assert load(fake.url, output, *arguments).exit_code in (4, 5, 9)
    assert pauses == []
    assert not output.exists()


def test_cuts_are_continued_within_one_command(fake: FaultyApi, output: Path, pauses: list[float]) -> None:
    faults = [Fault(body=CONTENT, cut_after=MIB, headers=NAMED)]
    for begin in (MIB - 1, 2 * MIB - 2):
        headers = {**NAMED, "Content-Range": f"bytes {begin}-{SIZE - 1}/{SIZE}"}
        faults.append(Fault(206, CONTENT[begin:], headers, cut_after=MIB if begin < 2 * MIB - 2 else None))
    fake.answer("GET", PATH, *faults)
    done = load(fake.url, output, "--wait", "5")
    assert done.exit_code == 0, done.output
    assert output.read_bytes() == CONTENT
    assert len(pauses) == 2


def test_the_time_starts_anew_with_each_byte_and_then_is_over(fake: FaultyApi, output: Path) -> None:
    fake.answer("GET", PATH, BUSY)
    started = time.monotonic()
    done = load(fake.url, output, "--wait", "0.2")
    assert (done.exit_code, "(BUSY)" in done.stderr) == (9, True)
    assert time.monotonic() - started >= 0.2


def to_standard_output(fake: FaultyApi, *arguments: str) -> Result:
    return invoke(fake.url, "load", "day/model", "-o", "-", *arguments)


def test_standard_output_gets_each_byte_once(fake: FaultyApi, pauses: list[float]) -> None:
    rest = Fault(206, CONTENT[MIB:], {**NAMED, "Content-Range": f"bytes {MIB}-{SIZE - 1}/{SIZE}"})
    fake.answer("GET", PATH, Fault(body=CONTENT, cut_after=MIB, headers=NAMED), BUSY, rest)
    done = to_standard_output(fake, "--wait", "60")
    assert (done.exit_code, done.stdout_bytes) == (0, CONTENT)
    assert fake.requests()[-1].headers["if-range"] == ETAG
    assert len(pauses) == 2


@pytest.mark.parametrize("headers", [{"ETag": f'"{"b" * 64}"'}, {}])
def test_standard_output_never_mixes_editions(fake: FaultyApi, pauses: list[float], headers: dict[str, str]) -> None:
    fake.answer("GET", PATH, Fault(body=CONTENT, cut_after=MIB, headers=NAMED), Fault(body=OTHER, headers=headers))
    done = to_standard_output(fake, "--wait", "60")
    assert (done.exit_code, done.stdout_bytes) == (3, CONTENT[:MIB])
    assert "(ANSWER_CUT)" in done.stderr
    assert len(pauses) == 1


@pytest.mark.parametrize("headers", [{"ETag": f'"{"b" * 64}"'}, {"ETag": f"W/{ETAG}"}, {}])
def test_a_range_of_another_edition_is_refused(fake: FaultyApi, output: Path, headers: dict[str, str]) -> None:
    """As from a cache on the way that knows nothing of If-Range."""
    rest = Fault(206, OTHER[MIB:], {**headers, "Content-Range": f"bytes {MIB}-{SIZE - 1}/{SIZE}"})
    fake.answer("GET", PATH, Fault(body=CONTENT, cut_after=MIB, headers=NAMED), rest)
    done = to_standard_output(fake, "--wait", "1")
    assert (done.exit_code, done.stdout_bytes) == (3, CONTENT[:MIB])
    partial(output, ETAG).write_bytes(CONTENT[: MIB + 1])
    fake.answer("GET", PATH, rest)
    assert load(fake.url, output).exit_code == 3
    assert not output.exists()


def test_ready_tells_why_not_and_waits(tmp_path: Path) -> None:
    """It waits for a loader that is not there yet, and then for a login; there is no engine, so it never gets ready."""
    socket = f"unix:{tmp_path}/loader.sock"
    done = invoke(socket, "ready")
    assert (done.exit_code, "(LOADER_UNREACHABLE)" in done.stderr) == (3, True)
    command = [*COMMAND, "ready", "--wait", "600", "--url", socket]
    with ManagedProcess("ready", command, tmp_path, env=clean_env(tmp_path), cwd=REPOSITORY) as process:
        process.wait_until(lambda: "(LOADER_UNREACHABLE)" in process.stderr(), SECONDS, "it waits for the loader")
        with bare_site(tmp_path, LOADER_BIND=socket) as running:
            process.wait_until(lambda: "(NOT_LOGGED_IN)" in process.stderr(), SECONDS, "it waits for the login")
            done = invoke(running.url, "ready", "--json")
            assert (done.exit_code, json.loads(done.stdout)["code"]) == (5, "NOT_LOGGED_IN")


def test_ready_ends_once_the_loader_is_ready(fake: FaultyApi, pauses: list[float]) -> None:
    reasons = [problem(503, code, retryable=False) for code in ("NOT_LOGGED_IN", "ENGINE_UNAVAILABLE")]
    fake.answer("GET", "/ready", *reasons, Fault(body=b'{"ready": true}'))
    assert invoke(fake.url, "ready").exit_code == 5
    done = invoke(fake.url, "ready", "--wait", "60")
    assert (done.exit_code, done.stdout) == (0, "ready\n")
    assert len(pauses) == 1
    assert json.loads(invoke(fake.url, "ready", "--json").stdout) == {"ready": True}


def test_a_load_waits_for_a_login(tmp_path: Path, output: Path) -> None:
    with real_site(tmp_path / "device") as site:
        assert upload(site.url, "day", "model", CONTENT).status == 200
        assert call(site.url, "POST", "/lock").status == 200
        timer = threading.Timer(1.0, login, [site.url, {"email": EMAIL, "password": PASSWORD}])
        timer.start()
        done = load(site.url, output, "--wait", "60")
        timer.join()
        assert done.exit_code == 0, done.output
        assert output.read_bytes() == CONTENT
