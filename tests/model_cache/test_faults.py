"""Faults of the upstream: the client gets the right bytes or sees a cut, and no unverified file gets a final name."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.model_cache.soundness import assert_sound
from tests.support.loads import load_hashed
from tests.support.range_sites import RangeSite
from tests.support.range_upstream import Held
from tests.support.stored_resources import MIB, StoredResource, store_resource

SEGMENT = MIB
SIZE = 24 * MIB
# After a fault one segment may be fetched twice.
MAX_EXCESS = 1.25 * SEGMENT
# This offset is at no boundary of a segment or of a buffer.
SOMEWHERE = 9_456_789


@pytest.fixture(scope="session")
def medium(stored: Path) -> StoredResource:
    """A resource of SIZE bytes."""
    return store_resource(stored, "faulty", SIZE)


def fault(**changes: object) -> Callable[[Held], None]:
    """Return a function that sets these attributes of an object of the upstream."""

    def apply(held: Held) -> None:
        for name, value in changes.items():
            assert hasattr(held, name)
            setattr(held, name, value)

    return apply


def assert_settled(site: RangeSite, *resources: StoredResource) -> None:
    """Wait until the cache is idle, and check its files."""
    site.wait_until_idle()
    assert_sound(site.models, *resources)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(fault(), id="none"),
        pytest.param(fault(cut_every=3_999_999), id="cut again and again"),
        pytest.param(fault(cuts=[1, 2, 70_000, SOMEWHERE, SOMEWHERE + 1]), id="cut at awkward places"),
        pytest.param(fault(stalls=[SOMEWHERE, 2 * SOMEWHERE]), id="stalls"),
        pytest.param(fault(rate=60_000_000), id="throttled"),
        pytest.param(fault(announce=[1000]), id="announces too much"),
        pytest.param(fault(announce=[-1000, -20_000_000]), id="announces too little"),
        pytest.param(fault(statuses=[401]), id="401 once"),
        pytest.param(fault(statuses=[403, 500]), id="403 and 500"),
        pytest.param(fault(statuses=[503, 503]), id="503 twice"),
        pytest.param(fault(cuts=[SOMEWHERE], etag=None), id="cut without ETag"),
        pytest.param(fault(damage_once={0}), id="first byte damaged"),
        pytest.param(fault(damage_once={SOMEWHERE}), id="byte damaged"),
        pytest.param(fault(damage_once={SIZE - 70_000}), id="last segment damaged"),
        pytest.param(fault(damage_once={SOMEWHERE}, cuts=[SOMEWHERE + 100_000]), id="damaged, then cut"),
    ],
)
def test_a_temporary_fault_is_invisible_to_the_client(
    site: RangeSite, medium: StoredResource, spoil: Callable[[Held], None]
) -> None:
    held = medium.publish(site.api)
    spoil(held)
    done = load_hashed(site.url, medium.filename)
    assert (done.status, done.arrived, done.sha256) == (200, medium.size, medium.sha256)
    assert_settled(site, medium)
    assert (site.models / f"{medium.big.digest}.big").exists()
    assert held.sent <= medium.big.size + MAX_EXCESS
    assert held.cuts == held.stalls == held.statuses == held.announce == []
    assert not held.damage_once


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        pytest.param(fault(damage={SOMEWHERE}), "RESOURCE_CORRUPT", id="damaged in the middle"),
        pytest.param(fault(damage={5}), "RESOURCE_CORRUPT", id="damaged at the start"),
        pytest.param(fault(statuses=[403] * 20), "API_ERROR", id="403 forever"),
        pytest.param(fault(statuses=[404] * 20), "RESOURCE_NOT_FOUND", id="404"),
        pytest.param(fault(statuses=[302] * 20), "API_PROTOCOL", id="redirect to nowhere"),
        pytest.param(fault(ranges=False, cut_every=SOMEWHERE), "API_UNREACHABLE", id="cuts and ignores ranges"),
        pytest.param(fault(cut_every=0), "API_UNREACHABLE", id="sends nothing"),
    ],
)
def test_a_permanent_fault_ends_in_a_cut_or_a_problem_until_it_is_removed(
    site: RangeSite, medium: StoredResource, spoil: Callable[[Held], None], code: str
) -> None:
    held = medium.publish(site.api)
    spoil(held)
    first = load_hashed(site.url, medium.filename)
    assert first.cut or first.code == code
    if first.cut:
        site.wait_until_idle()
        second = load_hashed(site.url, medium.filename)
        assert second.cut or second.code == code
    assert_settled(site, medium)
    assert not list(site.models.glob("*.big"))
    medium.publish(site.api)
    done = load_hashed(site.url, medium.filename)
    assert (done.status, done.sha256) == (200, medium.sha256)
    assert_settled(site, medium)


def leave_partial(site: RangeSite, resource: StoredResource, content: bytes) -> None:
    """Write the partial file that an earlier process may have left."""
    path = site.models / f"{resource.big.digest}.partial"
    path.write_bytes(content)
    path.chmod(0o600)


def first_bytes(resource: StoredResource, size: int) -> bytes:
    with resource.big_file.open("rb") as file:
        return file.read(size)


def test_a_partial_file_of_the_same_version_is_resumed(site: RangeSite, medium: StoredResource) -> None:
    held = medium.publish(site.api)
    leave_partial(site, medium, first_bytes(medium, SOMEWHERE))
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    assert_settled(site, medium)
    (request,) = site.api.requests("GET", medium.big_path)
    assert request.headers["range"].startswith(f"bytes={SOMEWHERE}-")
    assert held.sent == medium.big.size - SOMEWHERE


@pytest.mark.parametrize("content", ["same bytes", "other bytes"])
def test_a_partial_file_of_another_version_is_used_as_far_as_it_is_right(
    site: RangeSite, medium: StoredResource, content: str
) -> None:
    held = medium.publish(site.api)
    data = first_bytes(medium, SOMEWHERE) if content == "same bytes" else bytes(SOMEWHERE)
    leave_partial(site, medium, data)
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    assert_settled(site, medium)
    repaired = 0 if content == "same bytes" else SOMEWHERE
    assert held.sent <= medium.big.size - SOMEWHERE + repaired + MAX_EXCESS


def test_a_response_that_ignores_the_range_is_read_from_its_start(site: RangeSite, medium: StoredResource) -> None:
    held = medium.publish(site.api)
    held.ranges = False
    held.cuts = [SOMEWHERE]
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    assert_settled(site, medium)
    assert held.sent == SOMEWHERE + medium.big.size


def test_a_damaged_partial_file_is_repaired(site: RangeSite, medium: StoredResource) -> None:
    held = medium.publish(site.api)
    data = bytearray(first_bytes(medium, SOMEWHERE))
    data[5_345_678] ^= 1
    leave_partial(site, medium, bytes(data))
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    assert_settled(site, medium)
    assert (site.models / f"{medium.big.digest}.big").exists()
    assert held.sent <= medium.big.size - SOMEWHERE + MAX_EXCESS


@pytest.mark.parametrize("size", [0, 1, SIZE, SIZE + MIB], ids=["empty", "a byte", "nearly whole", "too long"])
def test_a_partial_file_of_any_length_does_not_prevent_a_load(
    site: RangeSite, medium: StoredResource, size: int
) -> None:
    medium.publish(site.api)
    leave_partial(site, medium, (first_bytes(medium, size) + bytes(MIB))[:size])
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    assert_settled(site, medium)


def test_a_part_that_is_too_short_upstream_cuts_the_load(
    site: RangeSite, medium: StoredResource, tmp_path: Path
) -> None:
    held = medium.publish(site.api)
    held.file = tmp_path / "short"
    held.file.write_bytes(first_bytes(medium, SOMEWHERE))
    leave_partial(site, medium, first_bytes(medium, SOMEWHERE + MIB))  # The upstream responds to its range with 416.
    done = load_hashed(site.url, medium.filename)
    assert done.cut
    assert_settled(site, medium)
    medium.publish(site.api)
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    assert_settled(site, medium)


def test_two_simultaneous_downloads_with_cuts_and_damage_do_not_mix(
    site: RangeSite, medium: StoredResource, small: StoredResource
) -> None:
    for resource in (medium, small):
        held = resource.publish(site.api)
        held.cut_every = 1_999_999
        held.damage_once = {1_500_000, 3_500_000}
    with ThreadPoolExecutor() as pool:
        loads = [pool.submit(load_hashed, site.url, resource.filename) for resource in (medium, small)]
    assert [done.result().sha256 for done in loads] == [medium.sha256, small.sha256]
    assert_settled(site, medium, small)
