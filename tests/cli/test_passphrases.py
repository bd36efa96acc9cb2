"""Signing keys with a passphrase: on a terminal and from standard input, never as an argument, and refused keys."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loader.cli.main import main
from loader.crypto import signing_key_file
from loader.crypto.signing_key_file import read_signing_key, seal_signing_key
from loader.publisher_keys import PublisherKeys, key_text
from tests.cli.cli_runs import Terminal, terminal
from tests.cli.packing_runs import NO_ENGINE, assert_refused
from tests.support.handmade_image import HandmadeImage, docker_archive
from tests.support.loader_server import COMMAND, REPOSITORY
from tests.support.processes import clean_env
from tests.support.publishers import ANNA, BEN, write_key
from tests.support.thin_archives import index_of, release

PASSPHRASE = "correct horse"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let scrypt take an eighth of its time in this process."""
    monkeypatch.setattr(signing_key_file, "LOG_N", 14)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return release(tmp_path / "images.enc", 1)


@pytest.fixture
def annas(tmp_path: Path) -> Path:
    """Anna's key, which has a passphrase."""
    path = tmp_path / "anna.key"
    path.touch(0o600)
    path.write_bytes(seal_signing_key(ANNA, PASSPHRASE))
    return path


@pytest.fixture
def pack(tmp_path: Path, key: Path) -> tuple[str | Path, ...]:
    """The command that packs one image, up to its keys."""
    source = tmp_path / "source.tar"
    source.write_bytes(b"".join(docker_archive(HandmadeImage("app:3"))))
    return ("images", "pack", "--key", key, "-o", tmp_path / "packed.enc", "--from", source)


def run(*arguments: str | Path, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], input=stdin, env={"DOCKER_HOST": NO_ENGINE})


def signers(path: Path) -> list[bytes]:
    return [one.key for one in index_of(path).seals.signatures]


def enter(screen: Terminal, prompt: str, answer: str) -> None:
    """Type an answer once the prompt is there, because what was typed before is discarded."""
    screen.wait_for(prompt)
    assert PASSPHRASE not in screen.shown
    screen.shown = ""
    screen.type(f"{answer}\n")


@pytest.mark.parametrize("line", [b"correct horse\n", b"correct horse", b"\xef\xbb\xbfcorrect horse\r\n"])
def test_a_new_key_has_the_passphrase_of_standard_input(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "anna.key"
    done = run("sign", "new", path, "--passphrase", stdin=line)
    assert done.exit_code == 0, done.output
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with path.open("rb") as file:
        public = read_signing_key(file, lambda: PASSPHRASE).public
    (line_of_key,) = PublisherKeys.parse(done.stdout).keys
    assert (line_of_key.name, line_of_key.key) == ("anna", public)
    assert PASSPHRASE not in done.output


def test_a_terminal_asks_twice_for_a_new_passphrase_and_shows_neither(tmp_path: Path, archive: Path) -> None:
    path = tmp_path / "anna.key"
    with terminal(tmp_path, "sign", "new", str(path), "--passphrase") as screen:
        for typed in ("another", PASSPHRASE):
            enter(screen, "Passphrase: ", PASSPHRASE)
            enter(screen, "Repeat for confirmation: ", typed)
        assert screen.end() == 0
    with terminal(tmp_path, "images", "sign", str(archive), "--key", str(path)) as screen:
        enter(screen, f"Passphrase of {path}: ", PASSPHRASE)
        assert screen.end() == 0
    assert len(signers(archive)) == 1


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        (b"", "There is no passphrase on standard input."),
        (b"\n", "There is no passphrase on standard input."),
        (b"caf\xe9\n", "The passphrase is not UTF-8."),
    ],
)
def test_without_a_passphrase_there_is_no_key(tmp_path: Path, stdin: bytes, message: str) -> None:
    done = run("sign", "new", tmp_path / "anna.key", "--passphrase", stdin=stdin)
    assert done.exit_code == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_passphrase_is_no_argument(tmp_path: Path) -> None:
    assert run("sign", "new", tmp_path / "anna.key", "--passphrase", PASSPHRASE).exit_code == 2
    assert run("sign", "new", tmp_path / "anna.key", f"--passphrase={PASSPHRASE}").exit_code == 2


def test_an_archive_is_signed_with_the_passphrase(archive: Path, annas: Path) -> None:
    done = run("images", "sign", archive, "--key", annas, stdin=f"{PASSPHRASE}\n")
    assert done.exit_code == 0, done.output
    assert signers(archive) == [ANNA.public]


def test_a_wrong_passphrase_and_a_damaged_file_are_told_apart(archive: Path, annas: Path) -> None:
    before = archive.read_bytes()
    wrong = run("images", "sign", archive, "--key", annas, stdin="wrong\n")
    assert_refused(wrong, "VALIDATION_FAILED", 4)
    assert wrong.stderr == f"Error: {annas} does not open with this passphrase. (VALIDATION_FAILED)\n"
    annas.write_bytes(annas.read_bytes()[:-1] + b"\0")
    damaged = run("images", "sign", archive, "--key", annas)
    assert_refused(damaged, "VALIDATION_FAILED", 4)
    assert f"{annas} is a damaged signing key: its digest is wrong." in damaged.stderr
    assert archive.read_bytes() == before


def test_pack_asks_for_the_passphrase_of_each_key_in_turn(pack: tuple[str | Path, ...], annas: Path) -> None:
    bens = annas.with_name("ben.key")
    bens.touch(0o600)
    bens.write_bytes(seal_signing_key(BEN, "staple"))
    done = run(*pack, "--sign", annas, "--sign", bens, stdin=f"{PASSPHRASE}\nstaple\n")
    assert done.exit_code == 0, done.output
    assert signers(annas.with_name("packed.enc")) == [ANNA.public, BEN.public]
    missing = run(*pack, "--sign", annas, "--sign", bens, stdin=f"{PASSPHRASE}\n")
    assert missing.exit_code == 2
    assert f"There is no passphrase of {bens} on standard input." in missing.stderr


def test_standard_input_that_has_the_images_is_no_passphrase(pack: tuple[str | Path, ...], annas: Path) -> None:
    tar = Path(pack[-1]).read_bytes()
    done = run(*pack[:-1], "-", "--sign", annas, stdin=tar)
    assert_refused(done, "VALIDATION_FAILED", 4)
    assert f"{annas} has a passphrase, and nobody can be asked for it here" in done.stderr
    assert not annas.with_name("packed.enc").exists()
    plain = write_key(annas.with_name("ben.key"), BEN)
    assert run(*pack[:-1], "-", "--sign", plain, stdin=tar).exit_code == 0


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_key_that_others_may_open_signs_nothing(archive: Path, annas: Path, mode: int) -> None:
    before = archive.read_bytes()
    for path in (annas, write_key(annas.with_name("ben.key"), BEN)):
        path.chmod(mode)
        done = run("images", "sign", archive, "--key", path, stdin=f"{PASSPHRASE}\n")
        assert_refused(done, "VALIDATION_FAILED", 4)
        assert f"{path} is open to other users" in done.stderr
    assert archive.read_bytes() == before


def test_a_key_comes_through_a_link_or_a_pipe_of_another_program(archive: Path, annas: Path, tmp_path: Path) -> None:
    """Such as a password manager in `--key <(...)`."""
    link, plain = tmp_path / "link.key", write_key(tmp_path / "ben.key", BEN)
    link.symlink_to(annas)
    assert run("images", "sign", archive, "--key", link, stdin=PASSPHRASE).exit_code == 0
    line = f"{' '.join(COMMAND)} images sign {archive} --key <(cat {plain})"
    command = ["bash", "-c", line]
    done = subprocess.run(command, cwd=REPOSITORY, env=clean_env(tmp_path), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert signers(archive) == [ANNA.public, BEN.public]


@pytest.mark.parametrize("kind", ["directory", "device", "nothing"])
def test_what_is_no_file_is_no_key(archive: Path, tmp_path: Path, kind: str) -> None:
    path = {"directory": tmp_path, "device": Path(os.devnull), "nothing": tmp_path / "absent"}[kind]
    before = archive.read_bytes()
    assert run("images", "sign", archive, "--key", path).exit_code in (2, 4)
    assert run("sign", "new", tmp_path if kind == "directory" else path / "new.key").exit_code in (2, 8)
    assert archive.read_bytes() == before


def test_the_line_of_a_key_names_no_passphrase(annas: Path, archive: Path) -> None:
    done = run("images", "sign", archive, "--key", annas, stdin=f"{PASSPHRASE}\n")
    assert PASSPHRASE not in done.output
    assert key_text(ANNA.public) in run("images", "show", archive).stdout
