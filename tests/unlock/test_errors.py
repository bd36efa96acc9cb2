"""Every error of an unlock: its code, whether a retry may help, its hint, and its row in the documentation."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loader import errors
from loader.docker_engine import DockerEngine, EngineImage
from loader.errors import LoaderError
from loader.login_throttle import LoginThrottle
from loader.settings import Settings
from loader.unlock.interrupter import Interrupter
from loader.unlock.progress import UnlockProgress
from loader.unlock.run import Credentials, UnlockRun
from loader.unlock_state import STEPS, Failure, _UnlockStateHolder
from tests.support.archives import Packed
from tests.support.engines import Engine
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.unlocking import READY, Operator, UnlockDevice
from tests.unlock.conftest import is_sentence

pytest_plugins = ("tests.support.unlock_fixtures",)

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
CODES_OF_UNLOCK = {
    *("KEY_MISMATCH", "ARCHIVE_CORRUPT", "ARCHIVE_INCOMPLETE", "ARCHIVE_NOT_FOUND", "VERSION_MISMATCH"),
    *("UNTRUSTED_PUBLISHER", "ROLLBACK"),
    *("LOGIN_REJECTED", "LOGIN_THROTTLED", "API_UNREACHABLE", "API_ERROR", "API_PROTOCOL", "FORBIDDEN"),
    *("DISK_SPACE", "STORAGE_ERROR", "INTERRUPTED", "INTERNAL"),
    *("ENGINE_UNAVAILABLE", "ENGINE_REJECTED", "ENGINE_STALLED", "IMAGE_MISMATCH"),
}
# Not `from loader.unlock import run`, because tests replace names in the module.
unlock = importlib.import_module("loader.unlock.run")
PATH = "/binary-split/key-fragment"


def kinds(kind: type[LoaderError] = LoaderError) -> Iterator[type[LoaderError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from kinds(child)


BY_CODE = {kind.code: kind for kind in reversed(list(kinds()))}


def documented() -> dict[str, list[str]]:
    """Return the rows of the table in docs/operations.md by code."""
    rows = [line.strip().strip("|").split("|") for line in OPERATIONS.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row] for row in rows]
    return {row[0]: row[1:] for row in cells if re.fullmatch(r"[A-Z_]+", row[0])}


def test_the_documentation_lists_every_error_of_an_unlock() -> None:
    table = documented()
    assert set(table) == CODES_OF_UNLOCK
    for code, (meaning, again, hint) in table.items():
        assert meaning
        assert (again, hint) == ("yes" if BY_CODE[code].retryable else "no", BY_CODE[code].hint), code


@pytest.mark.parametrize("code", sorted(CODES_OF_UNLOCK))
def test_every_error_of_an_unlock_has_a_hint_of_its_own(code: str) -> None:
    assert is_sentence(BY_CODE[code].hint)
    assert errors.hint_of(code) == BY_CODE[code].hint
    assert [other for other in CODES_OF_UNLOCK if BY_CODE[other].hint == BY_CODE[code].hint] == [code]


def test_an_unknown_code_has_no_hint() -> None:
    assert errors.hint_of("TEAPOT") == ""


def assert_reported(operator: Operator, code: str) -> None:
    """Require that the status has the code, and the hint and `retryable` of its class.

    The hint of an API that is not reached fits the reason; see tests/web/test_reasons.py.
    """
    document = operator.document()
    kind = BY_CODE[code]
    assert (document["state"], document["code"]) == ("error", code)
    assert document["retryable"] is kind.retryable
    assert is_sentence(document["hint"])
    assert (document["hint"] == kind.hint) is (code != "API_UNREACHABLE")
    assert is_sentence(document["error"])


def corrupt(api: FaultyApi, path: Path) -> None:
    assert api
    path.write_bytes(b"no archive")


def other_key(api: FaultyApi, _: Path) -> None:
    api.fragment = b"another fragment that is as long as a fragment is"


def login_is(*faults: Fault) -> Callable[[FaultyApi, Path], None]:
    def prepare(api: FaultyApi, _: Path) -> None:
        api.answer("POST", "/login", *faults)

    return prepare


def fragment_is(*faults: Fault) -> Callable[[FaultyApi, Path], None]:
    def prepare(api: FaultyApi, _: Path) -> None:
        api.answer("GET", PATH, *faults)

    return prepare


FAULTS = {
    "refused login": (login_is(Fault(401)), "LOGIN_REJECTED"),
    "login of another service": (login_is(Fault(body=b"<html>")), "API_UNREACHABLE"),
    "broken login": (login_is(Fault(500)), "API_ERROR"),
    "silent login": (login_is(Fault(silent=True)), "API_UNREACHABLE"),
    "no fragment": (fragment_is(Fault(404, headers={"Content-Type": "application/problem+json"})), "KEY_MISMATCH"),
    "a 404 of another server": (fragment_is(Fault(404)), "API_ERROR"),
    "broken fragment": (fragment_is(Fault(500)), "API_ERROR"),
    "forbidden fragment": (
        fragment_is(Fault(403, b'{"code": "FORBIDDEN"}', {"Content-Type": "application/problem+json"})),
        "FORBIDDEN",
    ),
    "short fragment": (fragment_is(Fault(body=b"x" * 31)), "API_PROTOCOL"),
    "endless fragment": (fragment_is(Fault(body=b"x" * 4097)), "API_PROTOCOL"),
    "cut fragment": (fragment_is(Fault(body=b"x" * 32, cut_after=5)), "API_UNREACHABLE"),
    "stalled fragment": (fragment_is(Fault(body=b"x" * 32, stall_after=5)), "API_UNREACHABLE"),
    "other key": (other_key, "KEY_MISMATCH"),
    "no archive": (corrupt, "ARCHIVE_CORRUPT"),
}


def test_each_fault_of_archive_and_api_is_reported_until_it_is_corrected(
    unlock_device: UnlockDevice, docker: Engine, packed: Packed, slow_api: FaultyApi
) -> None:
    operator = unlock_device.start(docker.host, RESOURCE_API_URL=slow_api.url, API_READ_TIMEOUT="1")
    good = slow_api.fragment
    for prepare, code in FAULTS.values():
        unlock_device.put(packed.path)
        prepare(slow_api, unlock_device.archive)
        operator.unlock()
        assert_reported(operator, code)
        assert not unlock_device.tar.exists()
        slow_api.reset()
        slow_api.fragment = good
    unlock_device.put(packed.path)
    assert operator.unlock() == READY
    assert {name: operator.document()[name] for name in ("code", "retryable", "hint")} == {
        "code": None,
        "retryable": None,
        "hint": None,
    }


def test_a_version_that_is_not_in_the_archive_is_reported(
    unlock_device: UnlockDevice, docker: Engine, packed: Packed
) -> None:
    unlock_device.put(packed.path)
    operator = unlock_device.start(docker.host, API_VERSION="9.9")
    operator.unlock()
    assert_reported(operator, "VERSION_MISMATCH")


def test_an_engine_that_is_down_is_told(unlock_device: UnlockDevice, packed: Packed) -> None:
    unlock_device.put(packed.path)
    operator = unlock_device.start("unix:///nonexistent/docker.sock")
    operator.unlock()
    assert_reported(operator, "ENGINE_UNAVAILABLE")


class Run:
    """A run in the process of the tests, for errors that a device cannot produce on demand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, images_path: Path) -> None:
        self._holder = _UnlockStateHolder()
        monkeypatch.setattr(unlock, "_unlock", self._holder)
        monkeypatch.setattr(unlock, "get_api_client", lambda: None)
        self._settings = dataclasses.replace(Settings.from_env({"API_VERSION": "1.4"}), images_path=images_path)

    def failure(self, engine: DockerEngine) -> tuple[str, Failure]:
        progress, throttle = UnlockProgress(STEPS), LoginThrottle(16)
        self._holder.start(progress)
        credentials = Credentials("", "email", "a password")
        unlock._run_unlock(UnlockRun(self._settings, engine, credentials, throttle, progress, Interrupter()))
        record, _ = unlock.unlock_status()
        assert record.state == "error"
        assert record.failure is not None
        return str(record.error), record.failure


class BrokenEngine(DockerEngine):
    """An engine that fails with an unexpected error."""

    def find(self, _: object) -> EngineImage | None:
        raise ZeroDivisionError("a password")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    return Run(monkeypatch, tmp_path / "images.enc")


def test_an_archive_that_disappears_after_the_start_is_not_found(run: Run) -> None:
    error, failure = run.failure(DockerEngine(1))
    assert error.startswith("There is no archive at ")
    assert failure == Failure.of(errors.ArchiveNotFound("any"))


def test_an_unexpected_error_is_internal_and_reveals_nothing(
    run: Run, packed: Packed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "images.enc").write_bytes(packed.path.read_bytes())
    error, failure = run.failure(BrokenEngine(1))
    assert error == "The loader itself failed; its log says why."
    assert failure == Failure("INTERNAL", False, LoaderError.hint)
    assert "unexpected error" in caplog.text
