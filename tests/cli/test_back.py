"""`azaion-loader images back` with a real loader and a real engine: what it prints, its exit codes, its audit line."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import Result

from loader.unlock.previous import pin_of
from tests.cli.cli_runs import invoke
from tests.support.archives import VERSION
from tests.support.engines import Engine
from tests.support.faulty_wire import FaultyWire
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive, seal
from tests.support.images import image_id, remove_image
from tests.support.inventory import Inventory
from tests.support.unlocking import READY, Operator, UnlockDevice
from tests.unlock.old_versions.old_device import OLD, UNLOCKED

pytest_plugins = ("tests.support.unlock_fixtures",)


def back(operator: Operator, *arguments: str) -> Result:
    return invoke(operator.loader.url, "images", "back", *arguments)


def put(device: UnlockDevice, scratch: Path, serial: int, image: HandmadeImage) -> None:
    device.put(seal(scratch / "sealed.enc", [image], version=VERSION, serial=serial))


def unlock_two(operator: Operator, device: UnlockDevice, scratch: Path) -> None:
    """Unlock the releases of OLD and of UNLOCKED, with the serials 1 and 2."""
    for serial, image in enumerate((OLD, UNLOCKED), start=1):
        put(device, scratch, serial, image)
        assert operator.unlock() == READY


def names(engine: Engine) -> set[str]:
    return set(Inventory.of(engine).names)


def test_back_and_forward_are_told_and_audited(unlock_device: UnlockDevice, docker: Engine, tmp_path: Path) -> None:
    operator = unlock_device.start(docker.host)
    nowhere = back(operator)
    assert (nowhere.exit_code, nowhere.stdout) == (8, "")
    assert nowhere.stderr == (
        "Error: No other release was unlocked on this device before the present one. (NO_WAY_BACK)\n"
        "What to do: Unlock the release that this device shall run.\n"
    )
    unlock_two(operator, unlock_device, tmp_path)
    remove_image(docker, OLD.reference)

    there = back(operator)
    assert (there.exit_code, there.stderr) == (0, "")
    said = f"release {VERSION} (serial 1) has taken the place of release {VERSION} (serial 2): 2 names moved\n"
    assert there.stdout == said
    assert names(docker) == {OLD.reference, pin_of(UNLOCKED.reference)}
    status = operator.document()
    assert (status["state"], status["proven"], status["authenticated"]) == ("idle", False, True)
    plan = operator.get("/unlock/plan")
    assert (plan["done"], plan["release"]["serial"]) == (False, 2)

    forward = json.loads(back(operator, "--json").stdout)
    assert [forward[which]["serial"] for which in ("present", "previous")] == [2, 1]
    assert forward["present"]["images"] == [UNLOCKED.reference]
    assert forward["names"] == [OLD.reference, UNLOCKED.reference]
    assert names(docker) == {UNLOCKED.reference, pin_of(OLD.reference)}
    assert operator.get("/unlock/plan")["done"] is True

    lines = [line for line in operator.loader.log_lines() if line.get("event") == "back"]
    assert [line["outcome"] for line in lines] == ["failed", "ok", "ok"]
    assert [line["code"] for line in lines] == ["NO_WAY_BACK", None, None]
    assert f"release {VERSION} (serial 1) has taken the place" in lines[1]["reason"]


def test_the_previous_release_is_there_after_a_restart_without_an_archive(
    unlock_device: UnlockDevice, docker: Engine, tmp_path: Path
) -> None:
    operator = unlock_device.start(docker.host)
    unlock_two(operator, unlock_device, tmp_path)
    operator.loader.stop()
    unlock_device.archive.unlink()
    unlock_device.api.forget_requests()
    operator = unlock_device.start(docker.host)
    assert back(operator).exit_code == 0
    assert operator.unlock() == READY
    assert operator.document()["proven"] is True
    assert unlock_device.api.requests() == []


def test_nothing_moves_during_an_unlock(
    unlock_device: UnlockDevice, docker: Engine, wire: FaultyWire, tmp_path: Path
) -> None:
    operator = unlock_device.start(wire.host)
    unlock_two(operator, unlock_device, tmp_path)
    put(unlock_device, tmp_path, 3, HandmadeImage(UNLOCKED.reference, (HandmadeLayer(b"third"),)))
    wire.hold_upload(1000)
    operator.post()
    wire.wait_until_held()
    refused = back(operator)
    assert refused.exit_code == 9
    assert "An unlock is under way. (BUSY)" in refused.stderr
    wire.release()
    assert operator.rest() == READY
    assert back(operator).exit_code == 0
    pins = {pin_of(UNLOCKED.reference)}
    assert names(docker) == {UNLOCKED.reference, OLD.reference, *pins}
    assert image_id(docker, UNLOCKED.reference) == UNLOCKED.image.config


def test_an_image_of_somebody_else_keeps_its_name(unlock_device: UnlockDevice, docker: Engine, tmp_path: Path) -> None:
    operator = unlock_device.start(docker.host)
    unlock_two(operator, unlock_device, tmp_path)
    foreign = HandmadeImage(UNLOCKED.reference, (HandmadeLayer(b"a repair by hand"),))
    list(docker.client.api.load_image(b"".join(docker_archive(foreign))))
    before = Inventory.of(docker)
    refused = back(operator)
    assert refused.exit_code == 8
    assert f"{UNLOCKED.reference} is neither the image of release {VERSION} (serial 2)" in refused.stderr
    assert "What to do: Give that image another name, or remove this name, and try again." in refused.stderr
    assert Inventory.of(docker) == before
