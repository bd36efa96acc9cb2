"""The forgery matrix: what a device takes from each attacker, with PUBLISHER_KEYS and without; docs/security.md has it.

The device of each cell has no mark of an earlier release, as if an attacker had erased it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest

from tests.support.archives import remove_all_images
from tests.support.engines import Engine
from tests.support.handmade_image import FRAGMENT
from tests.support.loader_server import REPOSITORY
from tests.support.publishers import ANNA, write_publishers
from tests.unlock.forgers import ACTS, OWN_FRAGMENT, PARTIES, Releases
from tests.unlock.watched_device import WatchedDevice, watched_device

pytest_plugins = ("tests.support.unlock_fixtures",)

ACCEPTED = "accepted"
TRUNCATED = {"ARCHIVE_CORRUPT", "ARCHIVE_INCOMPLETE"}
# By whether PUBLISHER_KEYS is set and by the attacker: all that happens, for each act in the order of ACTS.
WITH_KEYS = ({"UNTRUSTED_PUBLISHER"}, {ACCEPTED}, {"UNTRUSTED_PUBLISHER", "ARCHIVE_CORRUPT"}, TRUNCATED)
WITH_FRAGMENT = ({ACCEPTED}, {ACCEPTED}, {"ARCHIVE_CORRUPT"}, TRUNCATED)
WITHOUT_FRAGMENT = (
    {"KEY_MISMATCH", "ARCHIVE_CORRUPT"},
    {ACCEPTED},
    {"KEY_MISMATCH", "ARCHIVE_CORRUPT"},
    TRUNCATED,
)
MATRIX = {
    True: dict.fromkeys(PARTIES, WITH_KEYS),
    False: {party: WITH_FRAGMENT if knows else WITHOUT_FRAGMENT for party, knows in PARTIES.items()},
}


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Releases:
    return Releases.make(tmp_path_factory.mktemp("releases"))


@pytest.fixture(scope="module", params=[True, False], ids=["with PUBLISHER_KEYS", "without"])
def device(
    request: pytest.FixtureRequest, docker_engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[WatchedDevice, bool]]:
    """A device, and whether it asks for signatures."""
    directory = tmp_path_factory.mktemp("device")
    keys = {"PUBLISHER_KEYS": str(write_publishers(directory / "publishers"))} if request.param else {}
    with watched_device(directory, docker_engine, "stream", **keys) as running:
        yield running, request.param


def outcome(device: WatchedDevice, archive: bytes, docker: Engine) -> str:
    """Unlock an archive on a device without images and without a mark, and return what happened."""
    remove_all_images(docker)
    models = device.directory / "models"
    shutil.rmtree(models)
    models.mkdir()
    status = device.unlock(archive)
    if status.state == "ready":
        return ACCEPTED
    assert device.loads == []
    device.assert_untouched()
    return str(status.code)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("party", PARTIES)
def test_a_device_takes_what_the_matrix_says(
    device: tuple[WatchedDevice, bool], docker: Engine, releases: Releases, party: str, act: str
) -> None:
    watched, has_keys = device
    found = {outcome(watched, archive, docker) for archive in ACTS[act](releases, PARTIES[party])}
    assert found == MATRIX[has_keys][party][list(ACTS).index(act)]


def test_a_retired_fragment_closes_the_way_back_to_an_older_release(
    device: tuple[WatchedDevice, bool], docker: Engine, releases: Releases
) -> None:
    watched, _ = device
    watched.api.fragment = OWN_FRAGMENT
    try:
        assert outcome(watched, releases.new.signed(ANNA, fragment=OWN_FRAGMENT), docker) == ACCEPTED
        assert outcome(watched, releases.old.signed(ANNA), docker) == "KEY_MISMATCH"
        # The document names who is left: a person with both fragments can rewrap the older release.
        assert outcome(watched, releases.old.signed(ANNA, fragment=OWN_FRAGMENT), docker) == ACCEPTED
    finally:
        watched.api.fragment = FRAGMENT


def documented(has_keys: bool) -> dict[str, tuple[set[str], ...]]:
    """Return the table of docs/security.md for devices with PUBLISHER_KEYS, or for those without."""
    title = "With PUBLISHER_KEYS" if has_keys else "Without PUBLISHER_KEYS"
    text = (REPOSITORY / "docs" / "security.md").read_text()
    (table,) = re.findall(rf"^\| {title} \|[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)+)", text, re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {name: tuple(set(cell.split(", ")) for cell in cells) for name, *cells in rows}


@pytest.mark.parametrize("has_keys", [True, False])
def test_the_document_has_the_matrix(has_keys: bool) -> None:
    assert documented(has_keys) == MATRIX[has_keys]
