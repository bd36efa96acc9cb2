"""The command line, and the files that it creates."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loader.crypto.archive_seals import key_check
from resource_api.accounts import Authenticator, Users
from resource_api.cli import main
from resource_api.data_directory import DataDirectory
from resource_api.fragments import Fragments
from tests.support.loader_server import REPOSITORY

EMAIL = "operator@example.com"


def run(*arguments: str | Path, stdin: str | bytes = "") -> Result:
    """Run a command in this process, and return its exit code and output."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a data directory that `init` created."""
    root = tmp_path / "some" / "data"
    assert run("init", root).exit_code == 0
    return root


def test_init_creates_private_files_and_keeps_existing_files(root: Path) -> None:
    assert {path.name for path in root.iterdir()} == {"users.json", "token-secret", "resources", "uploads", "tmp"}
    assert {mode(root / name) for name in ("users.json", "token-secret")} == {0o600}
    assert {mode(root), mode(root / "resources"), mode(root / "tmp")} == {0o700}
    run("user", "add", root, EMAIL, stdin="password\n")
    before = [(root / name).read_bytes() for name in ("users.json", "token-secret")]
    assert run("init", root).exit_code == 0
    assert [(root / name).read_bytes() for name in ("users.json", "token-secret")] == before


def test_init_refuses_a_directory_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("x")
    result = run("init", tmp_path)
    assert result.exit_code == 1
    assert result.output == f"Error: {tmp_path} is not empty and is not a data directory\n"
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    assert run("init", tmp_path / "letter.txt").exit_code == 1


def test_users_can_be_added_listed_changed_and_removed(root: Path) -> None:
    assert run("user", "add", root, "Operator@Example.com", stdin="first\n").output == (
        "Operator@Example.com: added, reader\n"
    )
    assert run("user", "add", root, "second@example.com", stdin="second").exit_code == 0
    assert run("user", "list", root).output == "operator@example.com  reader\nsecond@example.com  reader\n"
    assert "password changed" in run("user", "add", root, EMAIL, stdin=" new \r\n").output
    data = DataDirectory.open(root)
    assert Authenticator(data, 60).login(EMAIL, " new ") is not None
    assert Authenticator(data, 60).login(EMAIL, "first") is None
    assert run("user", "remove", root, EMAIL).exit_code == 0
    assert run("user", "remove", root, EMAIL).output == f"Error: there is no user {EMAIL}\n"
    assert [user.email for user in Users(data).all()] == ["second@example.com"]
    assert mode(root / "users.json") == 0o600
    assert list((root / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    "line", [b"pass word\r\n", b"\xef\xbb\xbfpass word\r\n", b"\xef\xbb\xbfpass word", b"pass word\n"]
)
def test_a_password_is_its_line_without_what_windows_adds(root: Path, line: bytes) -> None:
    assert run("user", "add", root, EMAIL, stdin=line).exit_code == 0
    assert Authenticator(DataDirectory.open(root), 60).login(EMAIL, "pass word") is not None


def test_a_password_that_is_not_utf_8_is_refused(root: Path) -> None:
    done = run("user", "add", root, EMAIL, stdin=b"caf\xe9\n")
    assert (done.exit_code, done.output) == (1, "Error: the password is not UTF-8\n")


def test_a_closed_standard_input_is_told(root: Path) -> None:
    line = f"{sys.executable} -m resource_api user add {root} {EMAIL} <&-"
    done = subprocess.run(["bash", "-c", line], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "Error: no password: standard input is closed\n")


def test_passwords_are_stored_hashed(root: Path) -> None:
    run("user", "add", root, EMAIL, stdin="a memorable password\n")
    assert "memorable" not in (root / "users.json").read_text()
    assert "scrypt:" in (root / "users.json").read_text()


@pytest.mark.parametrize("stdin", ["", "\n", "\r\n"])
def test_an_empty_password_is_refused(root: Path, stdin: str) -> None:
    assert run("user", "add", root, EMAIL, stdin=stdin).output == "Error: no password on standard input\n"
    assert run("user", "list", root).output == ""


@pytest.mark.parametrize("email", ["", "operator", "a b@example.com", "a@b\n", "a" * 250 + "@b.de"])
def test_an_invalid_email_address_is_refused(root: Path, email: str) -> None:
    assert run("user", "add", root, email, stdin="password\n").exit_code == 2
    assert run("user", "list", root).output == ""


def newest(root: Path) -> bytes | None:
    return Fragments(DataDirectory.open(root)).find(None)


@pytest.mark.parametrize("size", [32, 4096])
def test_key_set_reads_a_file_or_standard_input(root: Path, tmp_path: Path, size: int) -> None:
    file = tmp_path / "fragment"
    file.write_bytes(b"\n" * size)
    content = b"\n" * size
    assert run("key", "set", root, file).output == f"key fragment {key_check(content)} set\n"
    assert newest(root) == content
    assert mode(root / "key-fragments.json") == 0o600
    assert run("key", "set", root, "-", "--force", stdin=b"\xff" * size).exit_code == 0
    assert newest(root) == b"\xff" * size


@pytest.mark.parametrize("size", [0, 31, 4097])
def test_key_set_refuses_other_sizes(root: Path, tmp_path: Path, size: int) -> None:
    file = tmp_path / "fragment"
    file.write_bytes(bytes(size))
    result = run("key", "set", root, file)
    assert result.exit_code == 1
    assert result.output == f"Error: a key fragment has 32 to 4096 bytes, this one has {size}\n"
    assert not (root / "key-fragments.json").exists()


def test_key_new_creates_a_fragment_but_does_not_replace_one(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("key", "new", root, "--out", out).exit_code == 0
    assert out.read_bytes() == newest(root)
    assert len(out.read_bytes()) == 32
    assert mode(out) == mode(root / "key-fragments.json") == 0o600
    result = run("key", "new", root)
    assert result.exit_code == 1
    assert "there is a key fragment already" in result.output
    assert out.read_bytes() == newest(root)


def test_key_new_does_not_overwrite_a_file(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("precious")
    assert run("key", "new", root, "--out", out).output == f"Error: {out}: File exists\n"
    assert out.read_text() == "precious"
    assert not (root / "key-fragments.json").exists()


@pytest.mark.parametrize("command", [["user", "list"], ["key", "new"], ["serve"]])
def test_a_directory_that_init_did_not_create_is_reported_in_one_line(tmp_path: Path, command: list[str]) -> None:
    result = run(*command, tmp_path)
    assert result.exit_code == 1
    assert result.output == (f"Error: not a usable data directory: {tmp_path}/users.json: No such file or directory\n")


def test_a_damaged_file_is_reported_in_one_line(root: Path) -> None:
    (root / "users.json").write_text("{")
    result = run("user", "list", root)
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {root}/users.json is damaged: ")
    (root / "token-secret").write_bytes(b"short")
    assert run("user", "list", root).output == f"Error: {root}/token-secret holds fewer than 32 bytes\n"


def test_a_password_is_not_accepted_as_an_argument(root: Path) -> None:
    assert run("user", "add", root, EMAIL, "password").exit_code == 2


@pytest.mark.parametrize("command", [[], ["init"], ["user", "add"], ["key", "set"], ["key", "new"], ["serve"]])
def test_every_command_has_a_help_text(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["init DIR", "user list DIR", "user list DIR --json", "--version", "--help"])
def test_an_output_on_a_full_disk_is_an_error_of_one_line(root: Path, command: str, unbuffered: str) -> None:
    assert run("user", "add", root, EMAIL, stdin="password\n").exit_code == 0
    arguments = command.replace("DIR", str(root)).split()
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "resource_api", *arguments],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    place = "" if unbuffered and "DIR" in command else "standard output cannot be written: "
    assert (done.returncode, done.stderr) == (1, f"Error: {place}No space left on device\n")


def test_an_output_whose_reader_has_gone_is_no_traceback(root: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "resource_api", "init", root],
        cwd=REPOSITORY,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
