"""A failed scene tells all that explains it, also if the engine is gone."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import docker
import pytest

from tests.support.engines import Engine
from tests.support.processes import STOP_SECONDS, ManagedProcess, clean_env
from tests.unlock.engines.account import LOG_LINES, account_of, explained

pytest_plugins = ("tests.support.unlock_fixtures",)

LOG = f"import sys; sys.stderr.writelines(f'line {{n}}.\\n' for n in range({LOG_LINES + 1}))"


# The SDK leaves a socket open that could not be connected.
@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_an_account_has_the_journal_and_the_end_of_the_log_of_an_engine_that_is_gone(tmp_path: Path) -> None:
    host, journal = f"unix://{tmp_path}/gone.sock", tmp_path / "journal.json"
    journal.write_text("what the names had")
    with (
        closing(docker.DockerClient(base_url=host, version="1.41")) as client,
        ManagedProcess("engine", [sys.executable, "-c", LOG], tmp_path, env=clean_env(tmp_path)) as process,
    ):
        process.wait(STOP_SECONDS)
        told = account_of(Engine("gone", host, client, process), journal, [])
    lines = told.splitlines()
    assert "line 0." not in lines
    assert {"what the names had", "line 1.", f"line {LOG_LINES}."} <= set(lines)
    assert "ConnectionError" in lines[lines.index("== the engine has") + 1]


def test_a_failure_gets_the_account_and_stays_what_it_was() -> None:
    with pytest.raises(AssertionError, match="as it was") as caught, explained(lambda: "the account"):
        raise AssertionError("as it was")
    assert caught.value.__notes__ == ["the account"]
