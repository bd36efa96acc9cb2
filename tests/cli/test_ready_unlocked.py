"""`azaion-loader ready --unlocked`: true only for the images of the archive that is there now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.cli_runs import invoke
from tests.support.archives import APP
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive, seal
from tests.support.loader_server import COMMAND, REPOSITORY
from tests.support.processes import ManagedProcess, clean_env
from tests.support.unlocking import EMAIL, PASSWORD, READY, Rig

pytest_plugins = ("tests.support.unlock_fixtures",)

OLD, NEW = (HandmadeImage(APP, (HandmadeLayer(content * 900),)) for content in (b"old", b"new"))
UNLOCKED = ("ready", "--unlocked")
SECONDS = 60.0
RESTED: dict[str, Any] = {"state": "idle", "step": None, "code": None, "error": None, "hint": None, "retryable": None}
DONE: dict[str, Any] = {"done": True, "failure": None, "images": [], "release": None}
PLANNED: dict[str, Any] = {
    "done": False,
    "failure": None,
    "images": [{"reference": "app:1", "present": True}, {"reference": "app:2", "present": False}],
    "release": {"version": "1.5"},
}


@pytest.fixture
def url(rig: Rig) -> str:
    """The address of a loader without a login."""
    assert invoke(rig.operator.loader.url, "lock").exit_code == 0
    return rig.operator.loader.url


def test_it_waits_for_the_login_and_the_unlock(rig: Rig, url: str, tmp_path: Path) -> None:
    seal(rig.device.archive, [OLD])
    rig.wire.hold_upload(after=1024)
    command = [*COMMAND, *UNLOCKED, "--wait", "600", "--url", url]
    with ManagedProcess("ready", command, tmp_path, env=clean_env(tmp_path), cwd=REPOSITORY) as process:
        process.wait_until(lambda: "(NOT_LOGGED_IN)" in process.stderr(), SECONDS, "it waits for the login")
        assert f"waiting: The engine lacks docker.io/{APP} of release 1.4. Nobody has" in process.stderr()
        rig.operator.post()
        rig.wire.wait_until_held()
        process.wait_until(lambda: "(BUSY)" in process.stderr(), SECONDS, "it waits for the unlock")
        rig.wire.release()
        assert process.wait(SECONDS) == 0
        assert process.stdout() == "images are ready\n"


def test_the_images_of_an_older_archive_do_not_count(rig: Rig, url: str, tmp_path: Path) -> None:
    assert rig.unlock(seal(tmp_path / "old.enc", [OLD])) == READY
    assert invoke(url, *UNLOCKED).exit_code == 0
    rig.device.put(seal(tmp_path / "new.enc", [NEW]))
    assert rig.operator.status() == READY, "the state tells of the older archive"
    done = invoke(url, *UNLOCKED)
    assert (done.exit_code, done.stdout) == (4, "")
    # There is a login, so that only the unlock is missing; /ready says that loads can be served.
    assert f"Error: The engine lacks docker.io/{APP} of release 1.4. (IMAGE_NOT_FOUND)\n" in done.stderr
    assert "What to do: azaion-loader unlock --email EMAIL\n" in done.stderr
    assert rig.operator.unlock() == READY
    assert invoke(url, *UNLOCKED).exit_code == 0


def test_images_that_are_there_need_neither_login_nor_unlock(rig: Rig, url: str) -> None:
    """As after every start of a device."""
    rig.engine.client.images.load(b"".join(docker_archive(OLD)))
    seal(rig.device.archive, [OLD])
    assert invoke(url, "ready").exit_code == 5
    done = invoke(url, *UNLOCKED, "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, rig.operator.get("/unlock/plan"))


def test_a_failure_that_does_not_pass_ends_the_wait(rig: Rig, url: str) -> None:
    seal(rig.device.archive, [OLD])
    rig.operator.let_engine_change("nothing is loaded")
    assert rig.operator.unlock("a wrong password").code == "LOGIN_REJECTED"
    done = invoke(url, *UNLOCKED, "--wait", "600")
    assert (done.exit_code, "(LOGIN_REJECTED)" in done.stderr) == (5, True)
    seal(rig.device.archive, [OLD], version="9.9")
    done = invoke(url, *UNLOCKED, "--wait", "600")
    assert (done.exit_code, "(VERSION_MISMATCH)" in done.stderr) == (7, True)
    assert invoke(url, "login", "--email", EMAIL, stdin=f"{PASSWORD}\n").exit_code == 0


@pytest.fixture
def fake() -> Iterator[FaultyApi]:
    """A fake loader, because a real one fails for none of these reasons on demand."""
    with FaultyApi() as running:
        for path, document in (("/unlock/status", RESTED), ("/unlock/plan", PLANNED), ("/ready", {"ready": True})):
            running.answer("GET", path, answer(document))
        yield running


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between the attempts, none of which is made."""
    made: list[float] = []
    monkeypatch.setattr("loader.cli.waiting.time.sleep", made.append)
    return made


def answer(document: dict[str, Any]) -> Fault:
    return Fault(body=json.dumps(document).encode())


def problem(code: str, *, retryable: bool) -> dict[str, Any]:
    return {"code": code, "detail": f"It is {code}.", "hint": "Wait.", "retryable": retryable}


def failed(code: str, *, retryable: bool) -> dict[str, Any]:
    return {**RESTED, "state": "error", **problem(code, retryable=retryable), "error": f"It is {code}."}


def planned(code: str, *, retryable: bool) -> Fault:
    return answer({**PLANNED, "failure": problem(code, retryable=retryable)})


def refused(code: str, *, retryable: bool) -> Fault:
    return Fault(409, json.dumps(problem(code, retryable=retryable)).encode())


@pytest.mark.parametrize(
    ("path", "waited_for"),
    [
        ("/unlock/status", answer(failed("API_UNREACHABLE", retryable=True))),
        ("/unlock/status", answer({**RESTED, "state": "decrypting", "step": {"name": "decrypting"}})),
        ("/unlock/status", Fault(body=b"", cut_after=0)),
        ("/unlock/plan", planned("ENGINE_UNAVAILABLE", retryable=True)),
        ("/unlock/plan", planned("ARCHIVE_INCOMPLETE", retryable=False)),
        ("/unlock/plan", refused("ARCHIVE_NOT_FOUND", retryable=False)),
        ("/unlock/plan", refused("BUSY", retryable=True)),
        ("/unlock/plan", answer(PLANNED)),
    ],
    ids=["failed", "under way", "restarts", "no engine", "blobs absent", "no archive", "busy", "nobody unlocks"],
)
def test_what_may_pass_is_waited_for(fake: FaultyApi, pauses: list[float], path: str, waited_for: Fault) -> None:
    later = {"/unlock/status": answer(RESTED), "/unlock/plan": answer(DONE)}
    fake.answer("GET", path, waited_for, waited_for, waited_for, later[path])
    if path == "/unlock/status":
        unfinished = [answer(PLANNED)] * 3 if b"API_UNREACHABLE" in waited_for.body else []
        fake.answer("GET", "/unlock/plan", *unfinished, answer(DONE))
    at_once = invoke(fake.url, *UNLOCKED)
    assert (at_once.exit_code != 0, pauses) == (True, [])
    done = invoke(fake.url, *UNLOCKED, "--wait", "60")
    assert (done.exit_code, done.stdout) == (0, "images are ready\n"), done.stderr
    assert len(pauses) == 2


@pytest.mark.parametrize(
    ("path", "final", "code"),
    [
        ("/unlock/status", answer(failed("KEY_MISMATCH", retryable=False)), 7),
        ("/unlock/plan", planned("ROLLBACK", retryable=False), 7),
        ("/unlock/plan", refused("ARCHIVE_CORRUPT", retryable=False), 7),
    ],
)
def test_what_cannot_pass_is_not(fake: FaultyApi, pauses: list[float], path: str, final: Fault, code: int) -> None:
    fake.answer("GET", path, final)
    assert (invoke(fake.url, *UNLOCKED, "--wait", "60").exit_code, pauses) == (code, [])


def test_the_last_reason_is_told_when_the_time_is_over(fake: FaultyApi) -> None:
    fake.answer("GET", "/unlock/status", answer(failed("API_UNREACHABLE", retryable=True)))
    done = invoke(fake.url, *UNLOCKED, "--wait", "0.2")
    assert (done.exit_code, done.stdout) == (6, "")
    assert done.stderr == (
        "waiting: It is API_UNREACHABLE. (API_UNREACHABLE)\n"
        "Error: It is API_UNREACHABLE. (API_UNREACHABLE)\nWhat to do: Wait.\n"
    )


def test_images_of_a_failed_unlock_that_are_there_by_now_are_ready(fake: FaultyApi) -> None:
    fake.answer("GET", "/unlock/status", answer(failed("KEY_MISMATCH", retryable=False)))
    fake.answer("GET", "/unlock/plan", answer(DONE))
    assert invoke(fake.url, *UNLOCKED).exit_code == 0
