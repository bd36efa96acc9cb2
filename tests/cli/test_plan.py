"""The exit code of `azaion-loader unlock --plan`: 0 nothing to do, 1 would fail, 2 would change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.cli_runs import invoke
from tests.support.archives import APP
from tests.support.handmade_image import HandmadeImage, seal
from tests.support.unlocking import EMAIL, PASSWORD, READY, Rig

pytest_plugins = ("tests.support.unlock_fixtures",)

IMAGE = HandmadeImage(APP)


@pytest.fixture
def url(rig: Rig) -> str:
    return rig.operator.loader.url


def test_a_plan_is_2_before_the_unlock_that_it_names_and_0_after_it(rig: Rig, url: str) -> None:
    seal(rig.device.archive, [IMAGE])
    before = invoke(url, "unlock", "--plan")
    assert before.exit_code == 2
    assert before.stdout.endswith("\nWhat to do: azaion-loader unlock --email EMAIL\n")
    assert invoke(url, "unlock", "--email", EMAIL, stdin=f"{PASSWORD}\n").exit_code == 0
    after = invoke(url, "unlock", "--plan", "--json")
    assert (after.exit_code, json.loads(after.stdout)["done"]) == (0, True)


def broken(path: Path) -> None:
    path.write_bytes(b"no archive")


def another_version(path: Path) -> None:
    seal(path, [IMAGE], version="2")


@pytest.mark.parametrize(
    ("put", "code"),
    [(another_version, "VERSION_MISMATCH"), (broken, "ARCHIVE_CORRUPT"), (lambda _: None, "ARCHIVE_NOT_FOUND")],
    ids=lambda case: case if isinstance(case, str) else "",
)
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_a_plan_is_1_where_the_unlock_fails_with_the_same_error(
    rig: Rig, url: str, put: Callable[[Path], None], code: str, options: tuple[str, ...]
) -> None:
    put(rig.device.archive)
    plan = invoke(url, "unlock", "--plan", *options)
    unlock = invoke(url, "unlock", "--email", EMAIL, *options, stdin=f"{PASSWORD}\n")
    assert (plan.exit_code, unlock.exit_code) == (1, 4 if code == "ARCHIVE_NOT_FOUND" else 7)
    if options:
        told = json.loads(plan.stdout)
        told = told.get("failure") or told
        assert told == json.loads(unlock.stdout)
        assert told["code"] == code
    else:
        (reason, hint) = unlock.stderr.splitlines()[-2:]
        assert reason.endswith(f"({code})")
        assert reason.removeprefix("Error: ") in plan.output
        assert hint.startswith("What to do: ")
        assert plan.output.endswith(f"{hint}\n")
    assert rig.device.api.requests() == []
    assert rig.operator.document()["step"]["name"] == "checking" or code == "ARCHIVE_NOT_FOUND"


def test_a_plan_without_an_archive_is_0_if_the_unlock_needs_none(rig: Rig, url: str) -> None:
    seal(rig.device.archive, [IMAGE])
    assert rig.operator.unlock() == READY
    rig.device.archive.unlink()
    plan = invoke(url, "unlock", "--plan")
    assert plan.exit_code == 0
    assert plan.stdout.splitlines()[0] == f"{rig.device.archive}: no archive, mode tar"
    assert "present, " in plan.stdout
    assert rig.operator.unlock() == READY


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (("--plan", "--colour"), 1),
        (("--plan", "--allow-older"), 1),
        (("--plan", "--url", "ftp://x"), 1),
        (("--colour",), 2),
        ((), 2),
    ],
)
def test_wrong_usage_is_never_taken_for_a_change(url: str, arguments: tuple[str, ...], exit_code: int) -> None:
    assert invoke(url, "unlock", *arguments).exit_code == exit_code


def test_a_plan_that_nobody_could_make_has_the_exit_code_of_its_error() -> None:
    assert invoke("http://127.0.0.1:9", "unlock", "--plan").exit_code == 3
