"""`azaion-loader resources sweep` against the resource API: what two runs some days apart found, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loader import api_client
from loader.cli import resources
from loader.cli.main import main
from loader.crypto.model_parts import ResourceName
from resource_api.accounts import Role
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.resource_api_server import ResourceApiServer
from tests.support.signed_models import SignedModel, signed_model

READER = "reader@example.org"
DAY = 86_400.0
START = 1_772_366_400.0
CONTENT = bytes(100_000)
OTHER = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResourceApiServer]:
    with ResourceApiServer(tmp_path_factory.mktemp("api")) as started:
        started.add_user(EMAIL, PASSWORD, Role.PUBLISHER)
        started.add_user(READER, PASSWORD)
        yield started


@pytest.fixture
def objects(server: ResourceApiServer) -> Iterator[Path]:
    """Return the directory of the API's objects, empty; end without the client that a command made in this process."""
    directory = server.data_dir / "resources"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    yield directory
    api_client._settings = api_client._api_client = None


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


def put(objects: Path, model: SignedModel) -> Path:
    """Store both objects of a model, and return the file of the big one."""
    for path, data in model.as_objects().items():
        file = objects / path.removeprefix("/resources/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return objects / model.big_path.removeprefix("/resources/")


class Clock:
    """The clock of the command."""

    def __init__(self) -> None:
        self.now = START

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(resources, "time", made)
    return made


def run(server: ResourceApiServer, state: Path, *options: str, email: str = EMAIL) -> Result:
    command = ["resources", "sweep", str(state), "--api", server.url, "--email", email, *options]
    return CliRunner().invoke(main, command, input=PASSWORD)


def sweep(server: ResourceApiServer, state: Path, *options: str) -> dict[str, list[str]]:
    done = run(server, state, *options, "--json")
    assert done.exit_code == 0, done.output
    document: dict[str, list[str]] = json.loads(done.stdout)
    return document


NAMES = [ResourceName("m/day", "x"), ResourceName("", "x"), ResourceName("m", "x.small.big")]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.path)
def test_what_two_runs_some_days_apart_found_is_removed(
    server: ResourceApiServer, objects: Path, state: Path, clock: Clock, name: ResourceName
) -> None:
    left_over = put(objects, signed_model(CONTENT, 1, name=name))
    named = put(objects, signed_model(CONTENT, 2, name=name))
    path = str(left_over.relative_to(objects))
    assert sweep(server, state) == {"removed": [], "noted": [path], "unreadable": []}
    clock.now += 3 * DAY - 1
    assert sweep(server, state) == {"removed": [], "noted": [path], "unreadable": []}
    clock.now += 1
    done = run(server, state)
    assert done.stdout.splitlines()[0] == f"{path}: removed"
    assert done.stdout.splitlines()[1].startswith("1 object removed, ")
    assert not left_over.exists()
    assert named.exists()
    assert (objects / name.small).exists()
    assert sweep(server, state) == {"removed": [], "noted": [], "unreadable": []}


def test_an_upload_that_runs_meanwhile_keeps_its_object(
    server: ResourceApiServer, objects: Path, state: Path, clock: Clock
) -> None:
    """Its big object is there at the first run, and its small one before the second."""
    model = signed_model(CONTENT)
    big, small = put(objects, model), objects / model.name.small
    small.unlink()
    assert len(sweep(server, state)["noted"]) == 1
    small.write_bytes(model.small.to_bytes())
    clock.now += 30 * DAY
    assert sweep(server, state) == {"removed": [], "noted": [], "unreadable": []}
    assert big.exists()


def test_the_days_are_a_choice(server: ResourceApiServer, objects: Path, state: Path, clock: Clock) -> None:
    big = put(objects, signed_model(CONTENT))
    (objects / "m" / "x.small").unlink()
    sweep(server, state, "--days", "1")
    clock.now += DAY
    assert sweep(server, state, "--days", "2")["removed"] == []
    assert sweep(server, state, "--days", "1")["removed"] == [str(big.relative_to(objects))]
    assert run(server, state, "--days", "0").exit_code == 2


def test_nothing_but_big_objects_is_removed(
    server: ResourceApiServer, objects: Path, state: Path, clock: Clock
) -> None:
    others = [
        "images/1.head",
        "images/0a.blob",
        "m/x.big",
        f"m/{OTHER}.big",
        f"m/x.{OTHER}.bigger",
        f"m/x.{OTHER}0.big",
    ]
    for path in others:
        (objects / path).parent.mkdir(exist_ok=True)
        (objects / path).write_bytes(b"x")
    sweep(server, state)
    clock.now += 30 * DAY
    assert sweep(server, state) == {"removed": [], "noted": [], "unreadable": []}
    assert all((objects / path).exists() for path in others)


def test_big_objects_of_a_small_one_that_cannot_be_read_stay(
    server: ResourceApiServer, objects: Path, state: Path, clock: Clock
) -> None:
    big = put(objects, signed_model(CONTENT))
    (objects / "m" / "x.small").write_bytes(b"damaged")
    sweep(server, state)
    clock.now += 30 * DAY
    assert sweep(server, state) == {"removed": [], "noted": [], "unreadable": ["m/x.small"]}
    assert "m/x.small: cannot be read, so its big objects stay" in run(server, state).stdout
    assert big.exists()


def test_a_clock_that_went_back_removes_nothing(
    server: ResourceApiServer, objects: Path, state: Path, clock: Clock
) -> None:
    put(objects, signed_model(CONTENT))
    (objects / "m" / "x.small").unlink()
    sweep(server, state)
    clock.now -= 30 * DAY
    assert sweep(server, state)["removed"] == []
    clock.now += 3 * DAY
    assert len(sweep(server, state)["removed"]) == 1


def test_a_reader_may_not_sweep(server: ResourceApiServer, objects: Path, state: Path, clock: Clock) -> None:
    big = put(objects, signed_model(CONTENT))
    (objects / "m" / "x.small").unlink()
    sweep(server, state)
    clock.now += 3 * DAY
    refused = run(server, state, email=READER)
    assert refused.exit_code == 5
    assert "FORBIDDEN" in refused.stderr
    assert big.exists()
    assert len(sweep(server, state)["removed"]) == 1


WRONG_STATES = {
    "not JSON": (b"{", "is not the state file of a sweep"),
    "a list": (b"[]", "is not the state file of a sweep"),
    "another field": (b'{"api": "x", "found": {}, "x": 1}', "is not the state file of a sweep"),
    "no times": (b'{"api": "x", "found": {"a": "b"}}', "is not the state file of a sweep"),
    "found in a list": (b'{"api": "x", "found": []}', "is not the state file of a sweep"),
    "another API": (b'{"api": "http://other", "found": {}}', "is the state file of the sweep of http://other"),
}


@pytest.mark.parametrize(("data", "reason"), WRONG_STATES.values(), ids=WRONG_STATES)
@pytest.mark.usefixtures("objects")
def test_another_file_is_refused_and_stays(server: ResourceApiServer, state: Path, data: bytes, reason: str) -> None:
    state.write_bytes(data)
    refused = run(server, state)
    assert (refused.exit_code, "VALIDATION_FAILED" in refused.stderr) == (4, True)
    assert reason in refused.stderr
    assert state.read_bytes() == data


@pytest.mark.usefixtures("objects")
def test_a_state_file_that_cannot_be_written_is_a_storage_error(server: ResourceApiServer, tmp_path: Path) -> None:
    assert run(server, tmp_path / "absent" / "state.json").exit_code == 8
