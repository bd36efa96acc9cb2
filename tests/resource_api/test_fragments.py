"""Several key fragments: on the command line, in the file, and over HTTP."""

from __future__ import annotations

import base64
import json
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner, Result

from loader.crypto.archive_seals import key_check
from resource_api.cli import main
from resource_api.data_directory import DataDirectory, DataDirectoryError
from resource_api.fragments import Fragments
from tests.resource_api.conftest import Api

OLD, NEW = bytes(range(32)), b"\xff" * 4096
PATH = "/binary-split/key-fragment"


def stored(content: bytes, check: str) -> bytes:
    """Return a file with one fragment under `check`."""
    return json.dumps([{"check": check, "added": "", "fragment": base64.b64encode(content).decode()}]).encode()


def run(*arguments: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def checks(data: DataDirectory) -> list[str]:
    """Return the checks that `key list` prints."""
    return [line.split()[0] for line in run("key", "list", data.root).output.splitlines()]


@pytest.fixture
def fragments(data: DataDirectory) -> Fragments:
    """OLD, and NEW after it."""
    made = Fragments(data)
    assert [made.add(OLD), made.add(NEW)] == [key_check(OLD), key_check(NEW)]
    return made


def test_a_fragment_that_is_added_is_the_newest_and_keeps_the_others(data: DataDirectory) -> None:
    for content in (OLD, NEW):
        result = run("key", "add", data.root, "-", stdin=content)
        assert result.output == f"key fragment {key_check(content)} added\n"
        assert Fragments(data).find(None) == content
    assert checks(data) == [key_check(OLD), key_check(NEW)]


def test_the_same_fragment_is_not_added_twice(data: DataDirectory, fragments: Fragments) -> None:
    result = run("key", "add", data.root, "-", stdin=OLD)
    assert (result.exit_code, result.output) == (
        1,
        f"Error: this key fragment is there already, as {key_check(OLD)}\n",
    )
    assert fragments.find(None) == NEW


def test_a_retired_fragment_is_gone_and_the_others_stay(data: DataDirectory, fragments: Fragments) -> None:
    assert run("key", "retire", data.root, key_check(NEW)).output == f"key fragment {key_check(NEW)} retired\n"
    assert (fragments.find(key_check(NEW)), fragments.find(None)) == (None, OLD)
    assert NEW.hex() not in data.key_fragments_file.read_bytes().hex()


@pytest.mark.parametrize("check", ["", "0" * 16, "nonsense"])
def test_what_is_not_there_is_not_retired(data: DataDirectory, fragments: Fragments, check: str) -> None:
    result = run("key", "retire", data.root, check)
    assert (result.exit_code, result.output) == (1, f"Error: there is no key fragment {check}\n")
    assert len(fragments.all()) == 2


def test_key_set_names_what_would_be_lost_and_loses_it_only_by_force(data: DataDirectory, fragments: Fragments) -> None:
    result = run("key", "set", data.root, "-", stdin=NEW)
    assert result.exit_code == 1
    assert key_check(OLD) in result.output
    assert key_check(NEW) not in result.output
    assert len(fragments.all()) == 2

    assert run("key", "set", data.root, "-", "--force", stdin=NEW).exit_code == 0
    assert checks(data) == [key_check(NEW)]
    assert run("key", "set", data.root, "-", stdin=NEW).exit_code == 0


@pytest.mark.parametrize("command", ["set", "add"])
@pytest.mark.parametrize("size", [0, 31, 4097])
def test_a_fragment_of_another_size_changes_nothing(
    data: DataDirectory, fragments: Fragments, command: str, size: int
) -> None:
    result = run("key", command, data.root, "-", stdin=bytes(size))
    assert result.output == f"Error: a key fragment has 32 to 4096 bytes, this one has {size}\n"
    assert len(fragments.all()) == 2


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{",
        b"{}",
        b"1",
        b"[1]",
        b"[{}]",
        b'[{"fragment": "%", "added": ""}]',
        b'[{"fragment": 1, "added": ""}]',
        stored(OLD, "0" * 16),
        stored(b"", key_check(b"")),
        stored(bytes(31), key_check(bytes(31))),
        stored(bytes(4097), key_check(bytes(4097))),
        b"[" * 100_000,
    ],
    ids=range(13),
)
def test_a_damaged_file_is_one_clear_line_and_stays(data: DataDirectory, damaged: bytes) -> None:
    data.key_fragments_file.write_bytes(damaged)
    for command in (["list"], ["new"], ["retire", "0" * 16]):
        result = run("key", command[0], data.root, *command[1:])
        assert result.exit_code == 1
        assert f"{data.key_fragments_file} is damaged" in result.output
    with pytest.raises(DataDirectoryError):
        Fragments(data).add(OLD)
    assert data.key_fragments_file.read_bytes() == damaged


def test_a_server_does_not_start_with_a_damaged_file(data: DataDirectory) -> None:
    data.key_fragments_file.write_bytes(b"{}")
    with pytest.raises(AssertionError, match=r"resource_api: .*key-fragments\.json is damaged"), Api(data):
        pass


def test_fragments_that_are_added_at_the_same_time_are_all_kept(data: DataDirectory) -> None:
    contents = [bytes([number]) * 32 for number in range(8)]
    with ThreadPoolExecutor(len(contents)) as threads:
        added = list(threads.map(Fragments(data).add, contents))
    assert sorted(added) == sorted(checks(data)) == sorted(map(key_check, contents))


def test_a_device_gets_the_fragment_that_it_names(data: DataDirectory, fragments: Fragments) -> None:
    with Api(data) as api:
        bearer = api.bearer()
        for query, content in (("", NEW), (f"?check={key_check(OLD)}", OLD), (f"?check={key_check(NEW)}", NEW)):
            reply = api.call("GET", PATH + query, bearer)
            assert (reply.status, reply.body) == (200, content)
            assert reply.headers["Cache-Control"] == "no-store"
        assert fragments.retire(key_check(OLD))
        reply = api.call("GET", f"{PATH}?check={key_check(OLD)}", bearer)
        assert (reply.status, json.loads(reply.body)["detail"]) == (404, "This server has no such key fragment.")


@pytest.mark.parametrize("check", ["", "0" * 15, "0" * 17, "G" * 16, "ABCDEF0123456789", "%00" * 16, "0" * 16 + "%0a"])
def test_a_check_that_cannot_be_one_is_a_bad_request(api: Api, check: str) -> None:
    assert api.call("GET", f"{PATH}?check={check}", api.bearer()).status == 400


def test_a_check_needs_a_login_too(api: Api) -> None:
    assert api.call("GET", f"{PATH}?check={'0' * 16}").status == 401


def test_the_smallest_serial_comes_with_every_fragment(data: DataDirectory, fragments: Fragments) -> None:
    with Api(data) as api:
        bearer = api.bearer()

        def stated() -> set[str | None]:
            replies = [api.call("GET", PATH + query, bearer) for query in ("", f"?check={key_check(OLD)}")]
            assert [reply.body for reply in replies] == [NEW, OLD]
            return {reply.headers["Azaion-Minimum-Serial"] for reply in replies}

        assert stated() == {None}
        for serial in (7, (1 << 53) - 1):
            result = run("key", "minimum", data.root, serial)
            assert (result.exit_code, result.output) == (0, f"the smallest serial is {serial}\n")
            assert stated() == {str(serial)}
        assert stat.S_IMODE(data.minimum_serial_file.stat().st_mode) == 0o600
        assert run("key", "minimum", data.root, 0).exit_code == 0
        assert stated() == {None}
    assert fragments.minimum_serial() == 0


@pytest.mark.parametrize("serial", ["-1", "1.5", "seven", str(1 << 53)])
def test_what_is_no_serial_changes_nothing(data: DataDirectory, serial: str) -> None:
    assert run("key", "minimum", data.root, 7).exit_code == 0
    assert run("key", "minimum", data.root, "--", serial).exit_code == 2
    assert Fragments(data).minimum_serial() == 7


@pytest.mark.parametrize("damaged", [b"", b"-1", b"x", b"1 2", b"\xff", str(1 << 53).encode(), b"9" * 9999])
def test_a_server_does_not_start_with_a_damaged_smallest_serial(data: DataDirectory, damaged: bytes) -> None:
    data.minimum_serial_file.write_bytes(damaged)
    with pytest.raises(DataDirectoryError, match="damaged"):
        Fragments(data).minimum_serial()
    if damaged == b"x":
        with pytest.raises(AssertionError, match=r"resource_api: .*minimum-serial is damaged"), Api(data):
            pass
