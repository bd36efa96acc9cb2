"""What the command line says about images that no key fragment has authenticated."""

from __future__ import annotations

import json

import pytest

from loader.cli.unlock import NOT_PROVEN
from tests.cli.cli_runs import invoke
from tests.support.archives import APP
from tests.support.engines import Engine
from tests.support.handmade_image import HandmadeImage, docker_archive, seal
from tests.support.unlocking import EMAIL, PASSWORD, UnlockDevice

pytest_plugins = ("tests.support.unlock_fixtures",)

IMAGE = HandmadeImage(APP)


@pytest.mark.parametrize("present", [True, False])
def test_ready_says_whether_it_is_proven(unlock_device: UnlockDevice, docker: Engine, present: bool) -> None:
    if present:
        docker.client.images.load(b"".join(docker_archive(IMAGE)))
    seal(unlock_device.archive, [IMAGE])
    url = unlock_device.start(docker.host).loader.url
    ready = "images are ready, not proven" if present else "images are ready and proven"
    done = invoke(url, "unlock", "--email", EMAIL, stdin=f"{PASSWORD}\n")
    assert (done.exit_code, done.stdout) == (0, f"{ready}; logged in\n")
    assert (f"warning: {NOT_PROVEN}" in done.stderr) is present
    shown = invoke(url, "status").stdout
    assert f"login: logged in\nunlock: {ready}\n" in shown
    told = json.loads(invoke(url, "unlock", "--email", EMAIL, "--json", stdin=f"{PASSWORD}\n").stdout)
    assert (told["state"], told["proven"]) == ("ready", not present)
