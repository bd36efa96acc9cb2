"""`azaion-loader unlock --allow-older`: going back on purpose, and what the plan says before."""

from __future__ import annotations

from pathlib import Path

import pytest

from loader.errors import Rollback
from tests.cli.cli_runs import invoke
from tests.support.archives import APP, ARCHITECTURE, remove_all_images
from tests.support.handmade_image import CREATED, HandmadeImage, HandmadeLayer, seal
from tests.support.images import image_id
from tests.support.unlocking import EMAIL, PASSWORD, READY, Rig

pytest_plugins = ("tests.support.unlock_fixtures",)

OLD, NEW = (
    HandmadeImage(APP, (HandmadeLayer(note),), architecture=ARCHITECTURE) for note in (b"old" * 900, b"new" * 900)
)
OLD_TEXT, NEW_TEXT = (f"release 1.4 (serial {serial}, made {CREATED})" for serial in (1, 2))
UNLOCK = ("unlock", "--email", EMAIL)


@pytest.fixture
def url(rig: Rig, tmp_path: Path) -> str:
    """The address of a loader that had the new release, and now has the archive of the old one."""
    assert rig.unlock(seal(tmp_path / "new.enc", [NEW], serial=2)) == READY
    rig.device.put(seal(tmp_path / "old.enc", [OLD], serial=1))
    return rig.operator.loader.url


def test_the_plan_names_both_releases_and_the_option(url: str) -> None:
    shown = invoke(url, "unlock", "--plan")
    assert shown.exit_code == 1
    sentence = f"The archive is {OLD_TEXT}, older than {NEW_TEXT}, which became ready on this device. (ROLLBACK)"
    assert f"an unlock would fail: {sentence}\nWhat to do: {Rollback.hint}\n" in shown.stdout
    assert "--allow-older" in Rollback.hint


def test_an_older_release_is_refused_without_the_option_and_loaded_with_it(url: str, rig: Rig) -> None:
    refused = invoke(url, *UNLOCK, stdin=f"{PASSWORD}\n")
    assert (refused.exit_code, refused.stdout) == (7, "")
    assert refused.stderr.splitlines()[-2:] == [
        f"Error: The archive is {OLD_TEXT}, older than {NEW_TEXT}, which became ready on this device. (ROLLBACK)",
        f"What to do: {Rollback.hint}",
    ]
    assert image_id(rig.engine, APP) == NEW.image.config

    done = invoke(url, *UNLOCK, "--allow-older", stdin=f"{PASSWORD}\n")
    assert (done.exit_code, done.stdout) == (0, "images are ready and proven; logged in\n"), done.stderr
    assert done.stderr.startswith(f"permits {OLD_TEXT}, though this device had {NEW_TEXT}\n")
    assert image_id(rig.engine, APP) == OLD.image.config


def test_the_option_permits_nothing_where_nothing_is_older(url: str, rig: Rig, tmp_path: Path) -> None:
    rig.device.put(seal(tmp_path / "later.enc", [NEW], serial=3))
    done = invoke(url, *UNLOCK, "--allow-older", stdin=f"{PASSWORD}\n")
    assert (done.exit_code, done.stdout) == (0, "images are ready, not proven; logged in\n"), done.stderr
    assert "permits" not in done.stderr
    line = [line for line in rig.operator.loader.log_lines() if line.get("event") == "unlock"][-1]
    assert "allow_older" not in line


def test_the_option_needs_an_archive(url: str, rig: Rig) -> None:
    rig.device.archive.unlink()
    remove_all_images(rig.engine)
    done = invoke(url, *UNLOCK, "--allow-older", stdin=f"{PASSWORD}\n")
    assert done.exit_code == 4
    assert "(ARCHIVE_NOT_FOUND)" in done.stderr


def test_with_json_the_output_is_one_document(url: str) -> None:
    done = invoke(url, *UNLOCK, "--allow-older", "--json", stdin=f"{PASSWORD}\n")
    assert (done.exit_code, done.stderr) == (0, "")
