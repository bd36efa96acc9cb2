"""Servers of several hosts: each has the state read-only, and all share one directory of objects."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from resource_api.accounts import CLOCK_SECONDS, Authenticator, Role, Users
from resource_api.cli import main
from resource_api.data_directory import DataDirectory, DataDirectoryError
from resource_api.fragments import Fragments
from resource_api.storage.directory_uploads import MIN_PART_BYTES
from resource_api.storage.upload_rules import PART_BYTES
from tests.resource_api.conftest import EMAIL, FRAGMENT, PASSWORD, Api
from tests.support.small_disk import read_only_view

LAST = 1000
TOKEN_SECONDS = 60
READ_ONLY = "cannot be changed here: Read-only file system; run this command on the host that writes it"


@dataclass(frozen=True)
class Hosts:
    """`state` is the directory that one host writes; each of `apis` has a read-only view of it."""

    state: DataDirectory
    apis: tuple[Api, Api]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    place = tmp_path_factory.mktemp("hosts")
    state = DataDirectory.create(place / "state", place / "objects")
    Users(state).set_password(EMAIL, PASSWORD, Role.PUBLISHER)
    Fragments(state).set(FRAGMENT)
    with ExitStack() as running:
        apis = []
        for name in ("first", "second"):
            (place / name).mkdir()
            view = running.enter_context(read_only_view(state.root, place / name / "state"))
            api = Api(DataDirectory(view), RESOURCE_API_STORAGE=str(state.storage))
            apis.append(running.enter_context(api))
        yield Hosts(state, (apis[0], apis[1]))


def post(api: Api, bearer: dict[str, str], path: str, document: object) -> tuple[int, bytes]:
    headers = {**bearer, "Content-Type": "application/json"}
    reply = api.call("POST", path, headers, json.dumps(document).encode())
    return reply.status, reply.body


def test_a_token_of_one_host_is_valid_at_the_other_and_both_have_the_fragments(hosts: Hosts) -> None:
    bearer = hosts.apis[0].bearer()
    replies = [api.call("GET", "/binary-split/key-fragment", bearer) for api in hosts.apis]
    assert [(reply.status, reply.body) for reply in replies] == [(200, FRAGMENT)] * 2


def test_an_upload_that_one_host_began_is_completed_by_the_other(hosts: Hosts) -> None:
    first, second = hosts.apis
    bearer, content = first.bearer(), os.urandom(PART_BYTES + LAST)
    _, begun = post(first, bearer, "/uploads", {"name": "models/x.big", "size": len(content)})
    path = f"/uploads/{json.loads(begun)['upload']}"
    assert first.call("PUT", f"{path}/parts/1", bearer, content[:PART_BYTES]).status == 200
    number = PART_BYTES // MIN_PART_BYTES + 1
    assert second.call("PUT", f"{path}/parts/{number}", bearer, content[PART_BYTES:]).status == 200
    parts = json.loads(second.call("GET", path, bearer).body)["parts"]
    assert post(second, bearer, f"{path}/complete", {"parts": parts})[0] == 204
    for api in hosts.apis:
        assert api.call("GET", "/resources/models/x.big", bearer).body == content


def test_a_change_of_the_users_counts_at_every_host_at_once(hosts: Hosts) -> None:
    _, _, secret = Users(hosts.state).set_secret("device-8")
    bearers = [api.bearer("device-8", secret) for api in hosts.apis]
    Users(hosts.state).disable("device-8")
    for api in hosts.apis:
        assert {api.call("GET", "/resources", bearer).status for bearer in bearers} == {401}
        assert api.login("device-8", secret).status == 401


def test_a_new_fragment_is_at_every_host_at_once(hosts: Hosts) -> None:
    check = Fragments(hosts.state).add(bytes(32))
    for api in hosts.apis:
        assert api.call("GET", f"/binary-split/key-fragment?check={check}", api.bearer()).body == bytes(32)
    Fragments(hosts.state).retire(check)


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (("user", "add", "DIR", "new@example.com"), b"a password\n"),
        (("user", "add", "DIR", "--device", "device-9"), b""),
        (("user", "disable", "DIR", EMAIL), b""),
        (("user", "remove", "DIR", EMAIL), b""),
        (("key", "add", "DIR", "-"), bytes(32)),
        (("key", "set", "DIR", "-", "--force"), bytes(32)),
        (("key", "retire", "DIR", "CHECK"), b""),
        (("key", "minimum", "DIR", "7"), b""),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_what_would_change_the_state_is_one_clear_line(hosts: Hosts, arguments: tuple[str, ...], stdin: bytes) -> None:
    view, check = hosts.apis[0].data.root, Fragments(hosts.state).all()[-1].check
    before = contents(hosts.state.root)
    done = CliRunner().invoke(
        main, [each.replace("DIR", str(view)).replace("CHECK", check) for each in arguments], input=stdin
    )
    assert (done.exit_code, done.output) == (1, f"Error: {view} {READ_ONLY}\n")
    assert contents(hosts.state.root) == before


def test_a_fragment_that_was_not_kept_is_in_no_file(tmp_path: Path) -> None:
    state = DataDirectory.create(tmp_path / "state")
    with read_only_view(state.root, tmp_path / "view") as view:
        done = CliRunner().invoke(main, ["key", "new", str(view), "--out", str(tmp_path / "out")])
    assert (done.exit_code, done.output) == (1, f"Error: {view} {READ_ONLY}\n")
    assert not (tmp_path / "out").exists()


def test_objects_in_a_read_only_directory_stop_the_start(tmp_path: Path) -> None:
    state = DataDirectory.create(tmp_path / "state")
    with read_only_view(state.root, tmp_path / "view") as view:
        with pytest.raises(DataDirectoryError, match=r"tmp cannot be written; .* --storage names another one"):
            DataDirectory.open(view).require_storage()
        DataDirectory.open(
            view, DataDirectory.create(tmp_path / "state", tmp_path / "objects").storage
        ).require_storage()


def test_init_makes_the_directory_of_the_objects_and_serve_needs_it(tmp_path: Path) -> None:
    state, storage = tmp_path / "state", tmp_path / "objects"
    done = CliRunner().invoke(main, ["init", str(state), "--storage", str(storage)])
    assert done.exit_code == 0
    assert {path.name for path in state.iterdir()} == {"users.json", "token-secret", "tmp"}
    assert {path.name for path in storage.iterdir()} == {"resources", "uploads", "tmp"}
    DataDirectory.open(state, storage).require_storage()
    # A share that is not mounted must not look like an empty store.
    for absent in (None, tmp_path):
        with pytest.raises(DataDirectoryError, match=r"not a usable directory of objects: .*/resources: No such file"):
            DataDirectory.open(state, absent).require_storage()


def test_init_takes_no_directory_of_other_files_for_objects(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    done = CliRunner().invoke(main, ["init", str(tmp_path / "state"), "--storage", str(tmp_path / "other")])
    assert (done.exit_code, done.output) == (
        *(1, f"Error: {tmp_path}/other is not empty and is not a directory of objects\n"),
    )
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("ahead", "is_valid"),
    [
        *((-TOKEN_SECONDS - 2, False), (-TOKEN_SECONDS + 2, True), (0, True), (1, True)),
        *((CLOCK_SECONDS - 2, True), (CLOCK_SECONDS + 2, False)),
    ],
)
def test_the_clocks_of_hosts_may_differ(tmp_path: Path, ahead: int, is_valid: bool) -> None:
    state = DataDirectory.create(tmp_path / "state")
    _, _, secret = Users(state).set_secret("device-7")
    authenticator = Authenticator(state, TOKEN_SECONDS)
    with pytest.MonkeyPatch.context() as patch:
        now = time.time()
        patch.setattr("itsdangerous.timed.time.time", lambda: now + ahead)
        token = authenticator.login("device-7", secret)
    assert token is not None
    assert (authenticator.user_of(token) is not None) is is_valid


def contents(root: Path) -> dict[str, bytes]:
    """Return the content of every file below `root`."""
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}
