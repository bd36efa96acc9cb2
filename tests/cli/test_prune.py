"""`azaion-loader images prune` on a device with a real engine: what it prints, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loader.cli.main import main
from loader.cli.output import size_text
from loader.unlock.journal import JOURNAL_NAME
from loader.unlock.previous import pin_of
from tests.cli.packing_runs import assert_refused
from tests.support.archives import VERSION
from tests.support.engines import Engine
from tests.support.faulty_wire import FaultyWire
from tests.support.handmade_image import seal
from tests.support.images import image_id, unnamed_images
from tests.support.inventory import Inventory
from tests.support.sites import NO_ENGINE
from tests.support.socket_proxy import socket_proxy
from tests.support.unlocking import READY, UnlockDevice
from tests.unlock.old_versions.old_device import FOREIGN, NEXT, OLD, OLDER, UNLOCKED, OldDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

KEPT = [f"keeps {image.reference}" for image in (UNLOCKED, NEXT)]


@pytest.fixture
def device(docker: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OldDevice]:
    """A device whose engine has an old version, an older one that a container uses, and a foreign image."""
    monkeypatch.setenv("DOCKER_HOST", docker.host)
    made = OldDevice(tmp_path, docker)
    made.put(UNLOCKED, OLD, OLDER, FOREIGN[0])
    made.use(OLDER)
    yield made
    made.clean()


def prune(device: OldDevice, *arguments: str, host: str = "") -> Result:
    env = {**device.env, "DOCKER_HOST": host or device.engine.host}
    return CliRunner().invoke(main, ["images", "prune", *arguments], env=env)


def sizes(device: OldDevice) -> dict[str, int]:
    listed = device.engine.client.api.images()
    return {f"docker.io/{name}": image["Size"] for image in listed for name in image["RepoTags"]}


def test_the_dry_run_shows_everything_and_changes_nothing(device: OldDevice) -> None:
    before = Inventory.of(device.engine)
    result = prune(device)
    assert (result.exit_code, result.stderr) == (0, "")
    older, old = (size_text(sizes(device)[image.reference]) for image in (OLDER, OLD))
    assert result.stdout.splitlines() == [
        *KEPT,
        f"  {OLDER.reference}  {older}  stays: a container uses it",
        f"  {OLD.reference}  {old}",
        f"1 name to remove, at most {old}; nothing is removed without --yes",
    ]
    assert Inventory.of(device.engine) == before


def test_yes_removes_and_tells_what(device: OldDevice) -> None:
    size = sizes(device)[OLD.reference]
    result = prune(device, "--yes")
    assert result.exit_code == 0
    assert f"  {OLD.reference}  {size_text(size)}  removed\n" in result.stdout
    assert result.stdout.endswith(f"\n1 name removed, at most {size_text(size)}\n")
    assert device.names() == {image.reference for image in (UNLOCKED, OLDER, FOREIGN[0])}


def test_json_is_one_document(device: OldDevice) -> None:
    before = sizes(device)

    def entry(reference: str, *, used: bool, removed: bool) -> dict[str, object]:
        found = {"id": image_id(device.engine, reference), "size": before[reference]}
        return {"reference": reference, **found, "used": used, "removed": removed, "refused": None}

    used, old = entry(OLDER.reference, used=True, removed=False), entry(OLD.reference, used=False, removed=False)
    document = {
        "keeps": [UNLOCKED.reference, NEXT.reference],
        "previous": None,
        "images": [used, old],
        "bytes": before[OLD.reference],
        "unnamed": {"count": 0, "bytes": 0},
    }
    assert json.loads(prune(device, "--json").stdout) == document
    removed = {**document, "images": [used, {**old, "removed": True}]}
    assert json.loads(prune(device, "--json", "--yes").stdout) == removed
    assert json.loads(prune(device, "--json").stdout) == {**document, "images": [used], "bytes": 0}


def test_images_without_a_name_are_told_with_the_command_of_the_engine(
    device: OldDevice, podman: Engine, tmp_path: Path
) -> None:
    (tmp_path / "podman").mkdir()
    for made in (device, OldDevice(tmp_path / "podman", podman)):
        made.put(UNLOCKED, FOREIGN[1])
        made.name(UNLOCKED, FOREIGN[1].reference)
        (unnamed,) = unnamed_images(made.engine)
        (size,) = [image["Size"] for image in made.engine.client.api.images(filters={"dangling": True})]
        told = f"1 image without a name, {size_text(size)}, may be anybody's and stay"
        assert prune(made, "--yes").stdout.endswith(f"\n{told}; to remove them: {made.engine.name} image prune\n")
        assert json.loads(prune(made, "--json").stdout)["unnamed"] == {"count": 1, "bytes": size}
        assert unnamed_images(made.engine) == [unnamed]


def test_a_refusal_is_told_with_its_reason_and_an_exit_code(device: OldDevice, tmp_path: Path) -> None:
    with socket_proxy(tmp_path / "nginx", device.engine.socket) as host:
        result = prune(device, "--yes", host=host)
        document = json.loads(prune(device, "--yes", "--json", host=host).stdout)
    assert result.exit_code == 8
    assert "REFUSED: The Docker engine at " in result.stdout
    assert "403 Forbidden" in result.stdout
    assert result.stdout.endswith("\n0 names removed, at most 0 B\n")
    assert [image["removed"] for image in document["images"]] == [False, False]
    assert "403 Forbidden" in document["images"][1]["refused"]
    assert OLD.reference in device.names()


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_what_cannot_be_known_is_refused(device: OldDevice) -> None:
    before = Inventory.of(device.engine)
    assert_refused(prune(device, "--yes", host=NO_ENGINE), "ENGINE_UNAVAILABLE", 8)
    (device.models / JOURNAL_NAME).write_text("{}")
    assert_refused(prune(device, "--yes"), "BUSY", 9)
    (device.models / JOURNAL_NAME).unlink()
    device.archive.write_bytes(b"x")
    assert_refused(prune(device, "--yes"), "ARCHIVE_CORRUPT", 7)
    device.models = device.models / "absent"
    assert_refused(prune(device, "--yes"), "STORAGE_ERROR", 8)
    assert Inventory.of(device.engine) == before


def test_settings_that_cannot_be_used_are_wrong_usage(device: OldDevice) -> None:
    device.archive = Path("relative")
    result = prune(device)
    assert result.exit_code == 2
    assert "IMAGES_PATH must be an absolute path" in result.stderr


def test_after_three_unlocks_two_versions_are_old_and_nothing_goes_during_an_unlock(
    unlock_device: UnlockDevice, docker: Engine, wire: FaultyWire, tmp_path: Path
) -> None:
    operator = unlock_device.start(wire.host)
    env = {"IMAGES_PATH": str(unlock_device.archive), "MODEL_CACHE_DIR": str(unlock_device.remembered.parent)}
    env["DOCKER_HOST"] = docker.host
    for serial, image in enumerate((OLDER, OLD), start=1):
        unlock_device.put(seal(tmp_path / "sealed.enc", [image], version=VERSION, serial=serial))
        assert operator.unlock() == READY
    unlock_device.put(seal(tmp_path / "sealed.enc", [UNLOCKED], serial=3))
    wire.hold_upload(1000)
    operator.post()
    wire.wait_until_held()
    assert_refused(CliRunner().invoke(main, ["images", "prune", "--yes"], env=env), "BUSY", 9)
    wire.release()
    assert operator.rest() == READY

    done = CliRunner().invoke(main, ["images", "prune", "--yes", "--json"], env=env)
    assert (done.exit_code, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["keeps"] == [UNLOCKED.reference]
    assert [(image["reference"], image["removed"]) for image in document["images"]] == [
        (OLDER.reference, True),
        (OLD.reference, True),
    ]
    assert document["previous"] == {"version": VERSION, "serial": 2, "images": 1}
    assert Inventory.of(docker).names.keys() == {UNLOCKED.reference, pin_of(OLD.reference)}
    assert operator.get("/unlock/plan")["done"] is True


def test_the_previous_release_goes_with_an_explicit_word_only(
    unlock_device: UnlockDevice, docker: Engine, tmp_path: Path
) -> None:
    operator = unlock_device.start(docker.host)
    env = {"IMAGES_PATH": str(unlock_device.archive), "MODEL_CACHE_DIR": str(unlock_device.remembered.parent)}
    env["DOCKER_HOST"] = docker.host
    for serial, image in enumerate((OLD, UNLOCKED), start=1):
        unlock_device.put(seal(tmp_path / "sealed.enc", [image], version=VERSION, serial=serial))
        assert operator.unlock() == READY
    told = f"keeps 1 image of release {VERSION} (serial 1) for images back; --previous removes them too\n"
    pin = pin_of(OLD.reference)

    dry = CliRunner().invoke(main, ["images", "prune"], env=env)
    assert told in dry.stdout
    assert dry.stdout.endswith("\n1 name to remove, at most 0 B; nothing is removed without --yes\n")
    dry = CliRunner().invoke(main, ["images", "prune", "--previous"], env=env)
    assert told not in dry.stdout
    assert f"  {pin}  " in dry.stdout
    assert Inventory.of(docker).names.keys() == {UNLOCKED.reference, OLD.reference, pin}
    assert CliRunner().invoke(main, ["images", "prune", "--yes"], env=env).exit_code == 0
    assert Inventory.of(docker).names.keys() == {UNLOCKED.reference, pin}

    # What has lost its tag comes back with it.
    back = ["images", "back", "--url", operator.loader.url]
    assert CliRunner().invoke(main, back).exit_code == 0
    assert Inventory.of(docker).names.keys() == {OLD.reference, pin_of(UNLOCKED.reference)}
    assert CliRunner().invoke(main, back).exit_code == 0

    assert CliRunner().invoke(main, ["images", "prune", "--previous", "--yes"], env=env).exit_code == 0
    assert Inventory.of(docker).names.keys() == {UNLOCKED.reference}
    gone = CliRunner().invoke(main, back)
    assert gone.exit_code == 8
    assert f"The engine no longer has {OLD.reference} of release {VERSION} (serial 1)" in gone.stderr
    assert Inventory.of(docker).names.keys() == {UNLOCKED.reference}
