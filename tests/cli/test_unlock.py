"""`azaion-loader unlock`, in a terminal and in a script."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from loader import errors
from loader.cli.unlock import GOES_ON
from loader.references import full_reference
from tests.cli.cli_runs import invoke, terminal
from tests.support.archives import APP, ARCHITECTURE, DATABASE, PLATFORM, Packed, tags_of_tests
from tests.support.engines import Engine
from tests.support.handmade_image import CREATED, HandmadeImage, HandmadeLayer, seal
from tests.support.loader_server import run_loader
from tests.support.unlocking import EMAIL, PASSWORD, READY, Rig, UnlockDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

MIB = 1 << 20
NO_ENGINE = "unix:///nonexistent/docker.sock"
FULL_APP, FULL_DATABASE = full_reference(APP), full_reference(DATABASE)


def run(home: Path, *arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    return run_loader(home, "unlock", *arguments, stdin=stdin, **env)


def url(rig: Rig) -> str:
    return rig.operator.loader.url


def test_a_script_unlocks_with_the_password_on_standard_input(rig: Rig, packed: Packed, tmp_path: Path) -> None:
    rig.device.put(packed.path)
    rig.wire.slow_upload(pause_seconds=0.03)
    done = run(tmp_path, "--email", EMAIL, "--url", url(rig), stdin=f"{PASSWORD}\n")
    assert (done.returncode, done.stdout) == (0, "images are ready and proven; logged in\n"), done.stderr
    lines = done.stderr.splitlines()
    assert lines[-1] == "step 5 of 5: loading_images"
    assert all(re.fullmatch(r"step \d of 5: [a-z_]+", line) for line in lines)
    assert len(set(lines)) == len(lines)
    assert len(tags_of_tests(rig.engine)) == 2


def test_an_operator_types_the_password_and_sees_a_bar(rig: Rig, packed: Packed, tmp_path: Path) -> None:
    rig.device.put(packed.path)
    rig.wire.slow_upload(pause_seconds=0.03)
    with terminal(tmp_path, "unlock", "--email", EMAIL, "--url", url(rig)) as screen:
        screen.wait_for("Password: ")
        arguments = Path(f"/proc/{screen.pid}/cmdline").read_bytes()
        screen.type(f"{PASSWORD}\n")
        assert screen.end() == 0, screen.shown
    assert PASSWORD not in screen.shown
    assert PASSWORD.encode() not in arguments
    bars = re.findall(r"\[(#*-*)\] +(\d+) %  (\d)/5 ([a-z_]+)  (\d+(?:\.\d+)? [kMG]?B)/s(, \d+ s left)?", screen.shown)
    percents = [int(percent) for _, percent, *_ in bars]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert len(set(percents)) > 2
    assert {len(bar) for bar, *_ in bars} == {24}
    assert any(left for *_, left in bars)
    assert screen.shown.rstrip().endswith("images are ready and proven; logged in")
    assert screen.shown.count("\n") < 6  # one line is written over


def test_ctrl_c_says_that_the_unlock_goes_on_and_how_to_stop_it(rig: Rig, packed: Packed, tmp_path: Path) -> None:
    rig.device.put(packed.path)
    rig.wire.hold_upload(after=MIB)
    with terminal(tmp_path, "unlock", "--email", EMAIL, "--url", url(rig)) as screen:
        screen.wait_for("Password: ")
        screen.type(f"{PASSWORD}\n")
        screen.wait_for("loading_images")
        screen.type("\x03")
        assert screen.end() == 1
    assert GOES_ON in screen.shown
    assert rig.operator.status().state == "loading_images"
    assert "azaion-loader unlock --cancel" in GOES_ON
    assert invoke(url(rig), "unlock", "--cancel").stdout == "the unlock stops\n"
    rig.wire.release()
    assert rig.operator.rest().code == "INTERRUPTED"
    assert rig.operator.document()["authenticated"] is True
    assert invoke(url(rig), "unlock", "--cancel").stdout == "no unlock runs\n"


def test_a_failed_unlock_prints_code_and_hint(rig: Rig, packed: Packed, tmp_path: Path) -> None:
    rig.device.put(packed.path)
    done = run(tmp_path, "--email", EMAIL, stdin="a wrong password\n", LOADER_URL=url(rig))
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.splitlines()[-2:] == [
        "Error: The resource API rejected the e-mail or the password. (LOGIN_REJECTED)",
        f"What to do: {errors.LoginRejected.hint}",
    ]
    assert "a wrong password" not in done.stderr
    shown = invoke(url(rig), "status").stdout
    error = "unlock: error: The resource API rejected the e-mail or the password. (LOGIN_REJECTED)"
    assert f"{error}\nWhat to do: {errors.LoginRejected.hint}\n" in shown


def test_the_status_shows_a_running_unlock(rig: Rig, packed: Packed) -> None:
    rig.device.put(packed.path)
    rig.wire.hold_upload(after=MIB)
    rig.operator.post()
    rig.wire.wait_until_held()
    shown = invoke(url(rig), "status").stdout
    assert re.search(r"^unlock: loading_images, \d+ %, step 5 of 5, \d+ [kM]?B/s$", shown, re.MULTILINE), shown
    rig.wire.release()
    assert rig.operator.rest().state == "ready"
    assert "unlock: images are ready and proven\n" in invoke(url(rig), "status").stdout


def test_a_refused_unlock_prints_code_and_hint(rig: Rig, tmp_path: Path) -> None:
    done = run(tmp_path, "--email", EMAIL, "--url", url(rig), stdin="any\n")
    assert (done.returncode, done.stdout) == (4, "")
    assert "(ARCHIVE_NOT_FOUND)" in done.stderr
    assert f"What to do: {errors.ArchiveNotFound.hint}" in done.stderr


@pytest.mark.parametrize("arguments", [("--email", EMAIL), ("--plan",)], ids=lambda arguments: arguments[0])
def test_an_unreachable_loader_is_reported(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(tmp_path, *arguments, "--url", "http://127.0.0.1:9", stdin="any\n")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines() == [
        "Error: No loader responds at http://127.0.0.1:9: Connection refused. (LOADER_UNREACHABLE)",
        "What to do: Start the loader, or say with --url or LOADER_URL where it is.",
    ]


def test_wrong_usage_is_reported(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2
    assert "--email is needed, or --plan" in done.stderr
    assert run(tmp_path, "--email", EMAIL, "--password", PASSWORD).returncode == 2


def test_the_help_says_where_the_password_comes_from(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    for word in ("--email", "--plan", "--url", "LOADER_URL", "http://127.0.0.1:8080", "it is never an argument"):
        assert word in " ".join(done.stdout.split())


def test_a_loader_on_a_unix_socket_is_unlocked(
    unlock_device: UnlockDevice, docker: Engine, packed: Packed, tmp_path: Path
) -> None:
    unlock_device.put(packed.path)
    operator = unlock_device.start(docker.host, LOADER_BIND=f"unix:{tmp_path}/loader.sock")
    done = run(tmp_path, "--email", EMAIL, stdin=PASSWORD, LOADER_URL=operator.loader.url)
    assert (done.returncode, done.stdout) == (0, "images are ready and proven; logged in\n"), done.stderr


def test_the_plan_is_shown_and_nothing_changes(rig: Rig, packed: Packed, tmp_path: Path) -> None:
    rig.device.put(packed.path)
    before = sorted(rig.device.directory.rglob("*"))
    state = rig.operator.document()
    done = run(tmp_path, "--plan", "--url", url(rig))
    assert (done.returncode, done.stderr) == (2, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"{rig.device.archive}: release 1.4, made {CREATED}, mode tar"
    for line, image, size in zip(lines[1:3], packed.images, ("3 MB", "268 kB"), strict=True):
        assert line == f"  {image.reference}: missing, {size}, for {PLATFORM}, created {CREATED}"
    assert lines[3] == "  reads 3 MB of the archive, sends 3 MB to the engine, which unpacks 3 MB"
    assert re.fullmatch(rf"  {rig.device.directory} and .*: needs 11 MB, [0-9.]+ GB free: fits", lines[4])
    assert lines[5:] == ["What to do: azaion-loader unlock --email EMAIL"]
    assert sorted(rig.device.directory.rglob("*")) == before
    assert rig.operator.document() == state
    assert rig.device.api.requests() == []
    # The plan tries whether a load gets through, without a body.
    assert [load.body_bytes for load in rig.loads] == [0]
    assert tags_of_tests(rig.engine) == []


def test_the_plan_shows_images_that_are_present(rig: Rig, packed: Packed, tmp_path: Path) -> None:
    rig.engine.client.images.load(packed.plain_tar.read_bytes())
    rig.device.put(packed.path)
    done = run(tmp_path, "--plan", "--url", url(rig))
    assert f"  {FULL_APP}: present, 3 MB, for {PLATFORM}, created " in done.stdout
    assert f"  {FULL_DATABASE}: present, " in done.stdout
    assert "sends" not in done.stdout
    assert done.stdout.endswith("nothing to do: all images are present, and an unlock would only log in\n")
    assert done.returncode == 0


def test_the_plan_of_an_update_says_what_is_sent_and_how_long_it_takes(rig: Rig, tmp_path: Path) -> None:
    large = HandmadeLayer(bytes(MIB), 20)
    assert rig.unlock(seal(tmp_path / "old.enc", [HandmadeImage(APP, (large,))])) == READY
    image = HandmadeImage(APP, (large, HandmadeLayer(b"new", 1000)))
    rig.device.put(seal(tmp_path / "new.enc", [image]))
    lines = run(tmp_path, "--plan", "--url", url(rig)).stdout.splitlines()
    assert lines[1].startswith(f"  {FULL_APP}: an update, 21 MB, of which 16 kB are sent, for ")
    assert lines[2] == "  reads 10 kB of the archive, sends 16 kB to the engine, which unpacks 9 kB"
    assert re.fullmatch(r"  takes (a few seconds|[0-9]+ s), if it goes as fast as the last unlock", lines[3])
    assert rig.operator.unlock() == READY


def test_the_plan_warns_of_images_for_another_architecture(rig: Rig, tmp_path: Path) -> None:
    seal(rig.device.archive, [HandmadeImage(APP, architecture="s390x"), HandmadeImage(DATABASE)])
    done = run(tmp_path, "--plan", "--url", url(rig))
    warnings = [line for line in done.stdout.splitlines() if "s390x" in line and "warning" in line]
    platform = rig.engine.client.version()
    runs = f"{platform['Os']}/{platform['Arch']}"
    assert warnings == [f"  warning: {FULL_APP} is made for linux/s390x, but the engine runs {runs}."]


def test_the_plan_of_an_image_without_a_time_says_no_time(rig: Rig, tmp_path: Path) -> None:
    seal(rig.device.archive, [HandmadeImage(APP, created="", architecture=ARCHITECTURE)])
    done = run(tmp_path, "--plan", "--url", url(rig))
    assert done.stdout.splitlines()[1] == f"  {FULL_APP}: missing, 6 kB, for {PLATFORM}"


def test_the_plan_works_without_an_engine(unlock_device: UnlockDevice, packed: Packed, tmp_path: Path) -> None:
    unlock_device.put(packed.path)
    operator = unlock_device.start(NO_ENGINE, UNLOCK_MODE="stream")
    done = run(tmp_path, "--plan", "--url", operator.loader.url)
    assert done.returncode == 1
    assert "an unlock would fail: The Docker engine at unix:///nonexistent/docker.sock does not respond" in done.stdout
    assert "(ENGINE_UNAVAILABLE)\nWhat to do: " in done.stdout
    assert f"  {FULL_APP}: unknown, 3 MB, for {PLATFORM}, created " in done.stdout
    assert "reads at most 3 MB of the archive, sends at most 3 MB to the engine, " in done.stdout
    assert "which unpacks at most 3 MB\n" in done.stdout
    assert "the Docker engine does not respond: its disk space is not checked" in done.stdout
    (needs,) = (line for line in done.stdout.splitlines() if "needs" in line)
    assert needs.startswith(f"  {unlock_device.remembered.parent}: needs 262 kB, ")


def test_there_is_no_plan_without_an_archive(rig: Rig, tmp_path: Path) -> None:
    done = run(tmp_path, "--plan", "--url", url(rig))
    assert (done.returncode, done.stdout) == (1, "")
    assert "(ARCHIVE_NOT_FOUND)" in done.stderr
    assert f"What to do: {errors.ArchiveNotFound.hint}" in done.stderr


def test_json_output_is_one_document(rig: Rig, packed: Packed) -> None:
    rig.device.put(packed.path)
    plan = invoke(url(rig), "unlock", "--plan", "--json")
    assert (plan.exit_code, plan.stderr) == (2, "")
    known = rig.operator.get("/unlock/plan")
    assert {name: json.loads(plan.stdout)[name] for name in ("archive", "images", "fits")} == {
        name: known[name] for name in ("archive", "images", "fits")
    }
    wrong = invoke(url(rig), "unlock", "--email", EMAIL, "--json", stdin="a wrong password\n")
    assert (wrong.exit_code, wrong.stderr) == (5, "")
    assert json.loads(wrong.stdout) == {
        "code": "LOGIN_REJECTED",
        "detail": "The resource API rejected the e-mail or the password.",
        "hint": errors.LoginRejected.hint,
        "retryable": False,
    }
    done = invoke(url(rig), "unlock", "--email", EMAIL, "--json", stdin=f"{PASSWORD}\n")
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout) == rig.operator.document()
    assert json.loads(done.stdout)["state"] == "ready"
