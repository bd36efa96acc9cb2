"""`azaion-loader status`, `login`, `lock`, `load` and `upload` against a real loader and a real resource API."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from loader import errors
from loader.cli.client import LoaderClient
from loader.cli.output import bar_text, draw_bar
from loader.cli.sending import FileUpload
from loader.errors import BodyTruncated
from loader.last_events import NAME
from tests.cli.cli_runs import invoke, terminal
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.loader_server import REPOSITORY
from tests.support.processes import clean_env
from tests.support.sites import BareSite, Site, bare_site, real_site

MIB = 1 << 20
CONTENT = bytes(range(256)) * 12_345
BAR = r"\[(#*-*)\] +(\d+) %  {}  (\d+(?:\.\d+)? [kMG]?B)/s"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A loader that is logged in at a reference API, which has `day/model.bin`."""
    directory = tmp_path_factory.mktemp("site")
    with real_site(directory) as running:
        (directory / "model.bin").write_bytes(CONTENT)
        done = invoke(running.url, "upload", str(directory / "model.bin"), "day")
        assert done.exit_code == 0, done.stderr
        yield running


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareSite]:
    """A loader on a unix socket, without an API and without a login."""
    directory = tmp_path_factory.mktemp("lonely")
    with bare_site(directory, LOADER_BIND=f"unix:{directory}/loader.sock", MAX_TRANSFERS="1") as running:
        yield running


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The path for a loaded model, in an empty directory."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "model.bin"


def run(site: BareSite, *arguments: str, stdin: str = "") -> Result:
    return invoke(site.url, *arguments, stdin=stdin)


def load(site: BareSite, output: Path, *arguments: str, name: str = "day/model.bin") -> Result:
    return run(site, "load", name, "-o", str(output), *arguments)


def test_only_the_owner_can_read_a_loaded_model(site: Site, output: Path) -> None:
    done = load(site, output)
    assert (done.exit_code, done.stderr) == (0, "loading day/model.bin: 3 MB\n")
    assert re.fullmatch(rf"{output}: 3 MB in \d+\.\d s\n", done.stdout)
    assert output.read_bytes() == CONTENT
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    note = output.with_name(".model.bin.etag")
    assert set(output.parent.iterdir()) == {output, note}
    assert stat.S_IMODE(note.stat().st_mode) == 0o600


def test_an_uploaded_model_can_be_loaded(site: Site, tmp_path: Path, output: Path) -> None:
    for name, content in (("empty", b""), ("small", b"x" * 1000), ("big", os.urandom(2 * MIB + 1))):
        (tmp_path / name).write_bytes(content)
        done = run(site, "upload", str(tmp_path / name), "deep/er")
        assert done.exit_code == 0, done.stderr
        assert done.stdout.startswith(f"{tmp_path}/{name}: ")
        assert load(site, output, name=f"deep/er/{name}").exit_code == 0
        assert output.read_bytes() == content


def test_the_folder_may_be_empty(site: Site, tmp_path: Path, output: Path) -> None:
    (tmp_path / "alone").write_bytes(b"alone")
    assert run(site, "upload", str(tmp_path / "alone"), "").exit_code == 0
    assert load(site, output, name="alone").exit_code == 0
    assert output.read_bytes() == b"alone"


def test_a_symbolic_link_stays_and_its_target_is_replaced(site: Site, output: Path) -> None:
    output.write_bytes(b"old")
    link = output.with_name("link")
    link.symlink_to(output)
    assert load(site, link).exit_code == 0
    assert link.is_symlink()
    assert output.read_bytes() == CONTENT


def test_only_regular_files_are_replaced_and_uploaded(site: Site, output: Path) -> None:
    os.mkfifo(output)
    for done in (load(site, output), run(site, "upload", str(output), "day")):
        assert done.exit_code == 2
        assert "is not a regular file" in done.stderr
    assert stat.S_ISFIFO(output.stat().st_mode)


def load_in_shell(site: Site, destination: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Load a model to standard output in a shell, which sends it to `destination`."""
    command = f"{sys.executable} -m loader load day/model.bin -o - --url {site.url} {destination}"
    return subprocess.run(
        ["bash", "-c", command], env=clean_env(home), cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


def test_only_the_plaintext_is_written_to_standard_output(site: Site, tmp_path: Path) -> None:
    done = load_in_shell(site, "| sha256sum", tmp_path)
    (tmp_path / "same").write_bytes(CONTENT)
    expected = subprocess.run(["sha256sum", str(tmp_path / "same")], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == expected.stdout.split()[0]
    assert run(site, "load", "day/model.bin", "-o", "-", "--json").exit_code == 2


def test_json_output_is_one_document(site: Site, output: Path) -> None:
    done = load(site, output, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document.pop("seconds") > 0
    assert document == {"file": str(output), "bytes": len(CONTENT), "unchanged": False}
    done = run(site, "upload", str(output), "day", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout)["folder"] == "day"


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_a_failure_prints_code_and_hint_and_changes_no_file(site: Site, output: Path, as_json: bool) -> None:
    output.write_bytes(b"old")
    done = load(site, output, *["--json"] * as_json, name="day/nothing")
    assert done.exit_code == 4
    if as_json:
        assert done.stderr == ""
        assert json.loads(done.stdout) == {
            "code": "RESOURCE_NOT_FOUND",
            "detail": "The resource API has no day/nothing.small.",
            "hint": errors.ResourceNotFound.hint,
            "retryable": False,
        }
    else:
        assert done.stdout == ""
        assert "(RESOURCE_NOT_FOUND)" in done.stderr
        assert done.stderr.endswith(f"What to do: {errors.ResourceNotFound.hint}\n")
    assert output.read_bytes() == b"old"
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_a_login_that_does_not_reach_the_api_prints_reason_and_hint(lonely: BareSite, as_json: bool) -> None:
    done = run(lonely, "login", "--email", EMAIL, *["--json"] * as_json, stdin=f"{PASSWORD}\n")
    assert done.exit_code == 6
    reason = "The resource API at 127.0.0.1 port 9 could not be reached: Connection refused."
    if as_json:
        document = json.loads(done.stdout)
        assert (document["code"], document["detail"]) == ("API_UNREACHABLE", reason)
        assert document["hint"].startswith("Check that the server runs at the host and port in RESOURCE_API_URL")
    else:
        shown, advice = done.stderr.splitlines()
        assert shown == f"Error: {reason} (API_UNREACHABLE)"
        assert advice.startswith("What to do: Check that the server runs at the host and port in RESOURCE_API_URL")


@pytest.mark.parametrize("name", ["day/a b", "day/..", "d y/x", "day/ü%2f?#"])
def test_a_bad_name_is_refused_with_the_reason(site: Site, output: Path, name: str) -> None:
    done = load(site, output, name=name)
    assert done.exit_code == 4, done.stderr
    assert "(VALIDATION_FAILED)" in done.stderr
    assert "1 to 128 letters" in done.stderr


def test_an_empty_name_is_wrong_usage(site: Site, output: Path) -> None:
    assert load(site, output, name="day/").exit_code == 2


def test_a_target_that_cannot_be_written_is_reported(site: Site, output: Path) -> None:
    done = load(site, output.parent / "absent" / "model.bin")
    assert done.exit_code == 8
    assert "(STORAGE_ERROR)" in done.stderr


def test_a_full_disk_is_reported(site: Site, tmp_path: Path) -> None:
    done = load_in_shell(site, "> /dev/full", tmp_path)
    assert done.returncode == 8
    assert "(DISK_SPACE)" in done.stderr


def test_a_login_reads_the_password_from_standard_input(site: Site) -> None:
    done = run(site, "login", "--email", EMAIL, stdin=f"{PASSWORD}\n")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "logged in\n", "")
    done = run(site, "login", "--email", EMAIL, "--json", stdin=f"{PASSWORD}\n")
    assert json.loads(done.stdout) == {"status": "ok"}
    done = run(site, "login", "--email", EMAIL, stdin="wrong\n")
    assert (done.exit_code, done.stdout) == (5, "")
    assert "(LOGIN_REJECTED)" in done.stderr
    assert run(site, "login", "--email", EMAIL, "--password", PASSWORD).exit_code == 2


def test_load_fails_without_a_login(lonely: BareSite, output: Path) -> None:
    done = load(lonely, output)
    assert done.exit_code == 5
    assert "(NOT_LOGGED_IN)" in done.stderr
    assert run(lonely, "login", "--email", EMAIL, stdin="any\n").exit_code == 6


def test_a_refused_upload_ends_before_its_body_is_sent(lonely: BareSite, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(bytes(32 * MIB))
    done = run(lonely, "upload", str(tmp_path / "model"), "day")
    assert done.exit_code == 5
    assert "(NOT_LOGGED_IN)" in done.stderr


def test_status_prints_a_summary(site: Site, lonely: BareSite) -> None:
    (lonely.models / NAME).unlink(missing_ok=True)
    done = run(lonely, "status")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "login: nobody has logged in",
        "unlock: idle",
        f"cache: 0 models, 0 B in {lonely.models}",
    ]
    done = run(site, "status")
    login = rf"last login: \S+, (ok|failed), {re.escape(EMAIL)}, from 127\.0\.0\.1"
    assert re.match(rf"login: logged in\nunlock: idle\n{login}[^\n]*\ncache: ", done.stdout), done.stdout
    done = run(site, "status", "--json")
    document = json.loads(done.stdout)
    assert (document["authenticated"], document["unlock"]["state"]) == (True, "idle")


def test_a_terminal_shows_bars_and_a_password_prompt(site: Site, output: Path) -> None:
    with terminal(output.parent, "login", "--email", EMAIL, "--url", site.url) as screen:
        screen.wait_for("Password: ")
        screen.type(f"{PASSWORD}\n")
        assert screen.end() == 0, screen.shown
    assert PASSWORD not in screen.shown
    output.with_name(".model.bin.etag").unlink(missing_ok=True)
    for arguments, label in (
        (("load", "day/model.bin", "-o", str(output)), "loading day/model.bin"),
        (("upload", str(output), "night"), "uploading model.bin"),
    ):
        with terminal(output.parent, *arguments, "--url", site.url) as screen:
            assert screen.end() == 0, screen.shown
        percents = [int(percent) for _, percent, _ in re.findall(BAR.format(label), screen.shown)]
        assert percents[0] < percents[-1] == 100
        assert percents == sorted(percents)
        assert screen.shown.count("\n") == 2  # the bar, written over, and the result
        with terminal(output.parent, *arguments, "--json", "--url", site.url) as screen:
            assert screen.end() == 0
        assert json.loads(screen.shown)["bytes"] == len(CONTENT)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.truncate(path, MIB),
        lambda path: os.truncate(path, 5 * MIB),
        lambda path: path.write_bytes(bytes(4 * MIB)),
    ],
    ids=["shrinks", "grows", "is overwritten"],
)
def test_a_file_that_changes_during_its_upload_is_not_stored(
    site: Site, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    model = tmp_path / "model"
    model.write_bytes(b"x" * (4 * MIB))
    changes = [change]

    def once(_count: int) -> None:
        while changes:
            changes.pop()(model)

    before = len(site.audit_lines("upload"))
    with pytest.raises(BodyTruncated, match=f"{model} was changed while it was read"):
        FileUpload(LoaderClient(site.url), model, "day", once, lambda _event: None).send()
    assert site.next_audit_line("upload", before)["code"] == "BODY_TRUNCATED"
    assert not site.stored("day/model.small").exists()


def test_a_bar_fits_into_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    draw_bar(bar_text(50, "a long label", 1e6, 1), last=True)
    assert capsys.readouterr().err == "\r[############------------]  5\n"


def test_lock_forgets_the_login(tmp_path: Path, output: Path) -> None:
    with real_site(tmp_path / "device") as locked:
        assert "login: logged in" in run(locked, "status").stdout
        for _ in range(2):
            assert run(locked, "lock").stdout == "locked\n"
        assert "login: nobody has logged in" in run(locked, "status").stdout
        done = load(locked, output)
        assert done.exit_code == 5
        assert "(NOT_LOGGED_IN)" in done.stderr
        assert json.loads(run(locked, "lock", "--json").stdout) == {"status": "locked"}
