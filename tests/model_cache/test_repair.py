"""Repair: a load that finds bit rot by the tag of a segment fetches this segment again and continues."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.model_cache.soundness import assert_sound
from tests.support.flips import flip_in_file
from tests.support.loads import OpenLoad, load_hashed
from tests.support.range_sites import RangeSite
from tests.support.range_upstream import Held
from tests.support.stored_resources import MIB, StoredResource, store_resource

READERS = 8
HEAD_SIZE = 65_536
SIZE = 20 * MIB
FIRST, MIDDLE, LAST = 3, 9 * MIB + 1, SIZE - HEAD_SIZE
MAX_REPAIR = 1.1 * MIB


@pytest.fixture(scope="session")
def medium(stored: Path) -> StoredResource:
    """A resource of SIZE bytes."""
    return store_resource(stored, "repaired", SIZE)


def big(site: RangeSite, resource: StoredResource) -> Path:
    return site.models / f"{resource.big.digest}.big"


@pytest.fixture
def warm(site: RangeSite, medium: StoredResource) -> Held:
    """Load `medium` into the cache of `site`, and return the object of the upstream with `sent` set to 0."""
    held = medium.publish(site.api)
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    site.wait_until_idle()
    assert big(site, medium).exists()
    held.sent = 0
    return held


@pytest.mark.parametrize(
    "offsets",
    [{FIRST}, {MIDDLE}, {LAST}, {FIRST, MIDDLE, LAST}, {MIDDLE, MIDDLE + 2}, {MIDDLE, MIDDLE + MIB}],
    ids=["first", "middle", "last", "all three", "twice in one", "two neighbours"],
)
def test_a_damaged_segment_is_repaired_during_the_load(
    site: RangeSite, medium: StoredResource, warm: Held, offsets: set[int]
) -> None:
    for offset in offsets:
        flip_in_file(big(site, medium), offset)
    done = load_hashed(site.url, medium.filename)
    assert (done.status, done.arrived, done.sha256) == (200, medium.size, medium.sha256)
    segments = {(offset + HEAD_SIZE) // MIB for offset in offsets}
    site.wait_until_idle()
    assert 0 < warm.sent <= len(segments) * MAX_REPAIR
    assert_sound(site.models, medium)
    assert big(site, medium).exists()
    warm.sent = 0
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    assert warm.sent == 0


def test_a_damaged_segment_is_repaired_when_the_upstream_ignores_ranges(
    site: RangeSite, medium: StoredResource, warm: Held
) -> None:
    warm.ranges = False
    flip_in_file(big(site, medium), MIDDLE)
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    site.wait_until_idle()
    assert_sound(site.models, medium)


def test_eight_readers_cause_one_repair(site: RangeSite, medium: StoredResource, warm: Held) -> None:
    flip_in_file(big(site, medium), MIDDLE)
    before = len(site.api.requests("GET", medium.big_path))
    with ThreadPoolExecutor(READERS) as readers:
        loads = list(readers.map(lambda _: load_hashed(site.url, medium.filename), range(READERS)))
    assert {(done.status, done.sha256) for done in loads} == {(200, medium.sha256)}
    assert len(site.api.requests("GET", medium.big_path)) == before + 1
    assert warm.sent <= MAX_REPAIR
    site.wait_until_idle()
    assert_sound(site.models, medium)


@pytest.mark.parametrize("offset", [FIRST, MIDDLE, LAST], ids=["first", "middle", "last"])
def test_damage_in_the_cache_and_upstream_is_reported_until_the_upstream_is_repaired(
    site: RangeSite, medium: StoredResource, warm: Held, offset: int
) -> None:
    flip_in_file(big(site, medium), offset)
    warm.damage = {offset}
    first = load_hashed(site.url, medium.filename)
    assert first.cut if offset != FIRST else first.code == "RESOURCE_CORRUPT"
    second = load_hashed(site.url, medium.filename)
    assert (second.status, second.code) == (502, "RESOURCE_CORRUPT")
    site.wait_until_idle()
    assert_sound(site.models, medium)
    warm.damage = set()
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    site.wait_until_idle()
    assert_sound(site.models, medium)
    warm.sent = 0
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    assert warm.sent == 0


def test_a_load_beside_a_failed_one_succeeds_once_the_upstream_is_repaired(
    site: RangeSite, medium: StoredResource, warm: Held
) -> None:
    flip_in_file(big(site, medium), MIDDLE)
    warm.damage = {MIDDLE}
    with OpenLoad(site.url, medium.filename, receive_buffer=1 << 16) as slow:
        assert slow.read(MIB) == MIB  # This load keeps the part in use.
        assert load_hashed(site.url, medium.filename).cut
        warm.damage = set()
        again = load_hashed(site.url, medium.filename)
        assert again.sha256 == medium.sha256 or again.code == "RESOURCE_CORRUPT"
    site.wait_until_idle()
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    site.wait_until_idle()
    assert_sound(site.models, medium)


@pytest.mark.parametrize("change", ["truncated", "emptied", "removed", "too long", "replaced"])
def test_a_file_that_was_changed_while_idle_is_repaired(
    site: RangeSite, medium: StoredResource, warm: Held, change: str
) -> None:
    path, size = big(site, medium), medium.big.size
    if change == "removed":
        path.unlink()
    elif change == "replaced":
        path.write_bytes(bytes(size))
    else:
        with path.open("r+b") as file:
            file.truncate({"truncated": size - 1, "emptied": 0, "too long": size + 1}[change])
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    assert warm.sent <= 1.02 * size
    site.wait_until_idle()
    assert_sound(site.models, medium)
    assert path.exists()


@pytest.mark.usefixtures("warm")
def test_a_file_truncated_in_use_cuts_the_load_and_is_then_fetched_again(
    site: RangeSite, medium: StoredResource
) -> None:
    with OpenLoad(site.url, medium.filename, receive_buffer=1 << 16) as opened:
        assert opened.read(MIB) == MIB
        with big(site, medium).open("r+b") as file:
            file.truncate(MIDDLE)
        assert opened.finish().cut
    site.wait_until_idle()
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    site.wait_until_idle()
    assert_sound(site.models, medium)


@pytest.mark.usefixtures("warm")
def test_a_damaged_small_part_is_reported_until_the_upstream_is_repaired(
    site: RangeSite, medium: StoredResource
) -> None:
    small = site.api.objects[f"/resources/{medium.name.small}"]
    small.damage = {
        medium.small_file.stat().st_size - 1
    }  # This byte is in the head, which the tag of the first segment covers.
    assert load_hashed(site.url, medium.filename).code == "RESOURCE_CORRUPT"
    small.damage = set()
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    site.wait_until_idle()
    assert_sound(site.models, medium)
    small.damage_once = {medium.small_file.stat().st_size - 1}
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
