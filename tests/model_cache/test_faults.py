"""Each fault of an upstream: the client has the right bytes or sees a cut, and nothing unverified gets a name."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.loads import load_hashed
from tests.support.range_sites import RangeSite
from tests.support.range_upstream import Held
from tests.support.stored_resources import MIB, StoredResource, assert_sound

SEGMENT = MIB
MAX_EXCESS = 1.02
# Neither at the border of a segment nor of any buffer.
SOMEWHERE = 23_456_789


def fault(**changes: object) -> Callable[[Held], None]:
    """Something to be done to a held object."""

    def apply(held: Held) -> None:
        for name, value in changes.items():
            assert hasattr(held, name)
            setattr(held, name, value)

    return apply


def settled(site: RangeSite, *resources: StoredResource) -> None:
    """The cache is at rest and in order."""
    site.wait_until_idle()
    assert_sound(site.models, *resources)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(fault(), id="none"),
        pytest.param(fault(cut_every=9_999_999), id="cut again and again"),
        pytest.param(fault(cuts=[1, 2, 70_000, SOMEWHERE, SOMEWHERE + 1]), id="cut at awkward places"),
        pytest.param(fault(stalls=[SOMEWHERE, 2 * SOMEWHERE]), id="stalls"),
        pytest.param(fault(rate=60_000_000), id="throttled"),
        pytest.param(fault(announce=[1000]), id="announces too much"),
        pytest.param(fault(announce=[-1000, -50_000_000]), id="announces too little"),
        pytest.param(fault(statuses=[401]), id="401 once"),
        pytest.param(fault(statuses=[403, 500]), id="403 and 500"),
        pytest.param(fault(statuses=[503, 503]), id="503 twice"),
        pytest.param(fault(cuts=[SOMEWHERE], etag=None), id="cut without ETag"),
        pytest.param(fault(damage_once={0}), id="first byte damaged"),
        pytest.param(fault(damage_once={SOMEWHERE}), id="byte damaged"),
        pytest.param(fault(damage_once={64 * MIB - 70_000}), id="last segment damaged"),
        pytest.param(fault(damage_once={SOMEWHERE}, cuts=[SOMEWHERE + 100_000]), id="damaged, then cut"),
    ],
)
def test_fault_that_goes_by_is_not_seen_by_the_client(
    site: RangeSite, medium: StoredResource, spoil: Callable[[Held], None]
) -> None:
    held = medium.publish(site.api)
    spoil(held)
    done = load_hashed(site.url, medium.filename)
    assert (done.status, done.arrived, done.sha256) == (200, medium.size, medium.sha256)
    settled(site, medium)
    assert (site.models / f"{medium.big.sha256}.big").exists()
    assert held.sent <= MAX_EXCESS * medium.big.size
    assert held.cuts == held.stalls == held.statuses == held.announce == []
    assert not held.damage_once


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        pytest.param(fault(damage={SOMEWHERE}), "RESOURCE_CORRUPT", id="damaged in the middle"),
        pytest.param(fault(damage={5}), "RESOURCE_CORRUPT", id="damaged at the begin"),
        pytest.param(fault(statuses=[403] * 20), "API_ERROR", id="403 for ever"),
        pytest.param(fault(statuses=[404] * 20), "RESOURCE_NOT_FOUND", id="404"),
        pytest.param(fault(statuses=[302] * 20), "API_PROTOCOL", id="redirect to nowhere"),
        pytest.param(fault(ranges=False, cut_every=SOMEWHERE), "API_UNREACHABLE", id="cuts and ignores ranges"),
        pytest.param(fault(cut_every=0), "API_UNREACHABLE", id="sends nothing"),
    ],
)
def test_fault_that_stays_ends_in_a_cut_or_a_problem_and_then_goes_by(
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
    settled(site, medium)
    assert not list(site.models.glob("*.big"))
    medium.publish(site.api)
    done = load_hashed(site.url, medium.filename)
    assert (done.status, done.sha256) == (200, medium.sha256)
    settled(site, medium)


def leave_partial(site: RangeSite, resource: StoredResource, content: bytes, etag: str) -> None:
    """What an earlier process may have left."""
    for name, data in (("partial", content), ("etag", etag.encode())):
        path = site.models / f"{resource.big.sha256}.{name}"
        path.write_bytes(data)
        path.chmod(0o600)


def beginning(resource: StoredResource, size: int) -> bytes:
    with resource.big_file.open("rb") as file:
        return file.read(size)


def test_partial_of_the_same_version_is_continued(site: RangeSite, medium: StoredResource) -> None:
    held = medium.publish(site.api)
    leave_partial(site, medium, beginning(medium, SOMEWHERE), '"1"')
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    settled(site, medium)
    (request,) = site.api.requests("GET", medium.big_path)
    assert request.headers["range"].startswith(f"bytes={SOMEWHERE}-")
    assert request.headers["if-range"] == '"1"'
    assert held.sent == medium.big.size - SOMEWHERE


@pytest.mark.parametrize("spoiled", [b"\xff\xfe", b'"1\n"', b""], ids=["no text", "no header", "empty"])
def test_partial_is_continued_without_the_etag_that_the_disk_has_spoiled(
    site: RangeSite, medium: StoredResource, spoiled: bytes
) -> None:
    held = medium.publish(site.api)
    leave_partial(site, medium, beginning(medium, SOMEWHERE), "")
    (site.models / f"{medium.big.sha256}.etag").write_bytes(spoiled)
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    settled(site, medium)
    assert held.sent == medium.big.size - SOMEWHERE


@pytest.mark.parametrize("content", ["same bytes", "other bytes"])
def test_partial_of_another_version_is_begun_anew(site: RangeSite, medium: StoredResource, content: str) -> None:
    held = medium.publish(site.api)
    data = beginning(medium, SOMEWHERE) if content == "same bytes" else bytes(SOMEWHERE)
    leave_partial(site, medium, data, '"0"')
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    settled(site, medium)
    # Segments of the other version may have been repaired before the upstream said that it is another one.
    assert medium.big.size <= held.sent <= 1.2 * medium.big.size


def test_range_that_is_ignored_is_taken_from_the_begin(site: RangeSite, medium: StoredResource) -> None:
    held = medium.publish(site.api)
    held.ranges = False
    held.cuts = [SOMEWHERE]
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    settled(site, medium)
    assert held.sent == SOMEWHERE + medium.big.size


def test_partial_with_damage_is_healed(site: RangeSite, medium: StoredResource) -> None:
    held = medium.publish(site.api)
    data = bytearray(beginning(medium, SOMEWHERE))
    data[12_345_678] ^= 1
    leave_partial(site, medium, bytes(data), '"1"')
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    settled(site, medium)
    assert (site.models / f"{medium.big.sha256}.big").exists()
    assert held.sent <= medium.big.size - SOMEWHERE + 1.25 * SEGMENT


@pytest.mark.parametrize("size", [0, 1, 64 * MIB, 65 * MIB], ids=["empty", "a byte", "nearly whole", "too long"])
def test_partial_of_any_length_is_no_obstacle(site: RangeSite, medium: StoredResource, size: int) -> None:
    medium.publish(site.api)
    leave_partial(site, medium, (beginning(medium, size) + bytes(MIB))[:size], '"1"')
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    settled(site, medium)


def test_part_that_is_too_short_upstream(site: RangeSite, medium: StoredResource, tmp_path: Path) -> None:
    held = medium.publish(site.api)
    held.file = tmp_path / "short"
    held.file.write_bytes(beginning(medium, SOMEWHERE))
    leave_partial(site, medium, beginning(medium, SOMEWHERE + MIB), '"1"')  # its range is answered with 416
    done = load_hashed(site.url, medium.filename)
    assert done.cut
    settled(site, medium)
    medium.publish(site.api)
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    settled(site, medium)


def test_two_at_once_that_are_cut_and_damaged_stay_apart(
    site: RangeSite, medium: StoredResource, small: StoredResource
) -> None:
    for resource in (medium, small):
        held = resource.publish(site.api)
        held.cut_every = 1_999_999
        held.damage_once = {1_500_000, 3_500_000}
    with ThreadPoolExecutor() as pool:
        loads = [pool.submit(load_hashed, site.url, resource.filename) for resource in (medium, small)]
    assert [done.result().sha256 for done in loads] == [medium.sha256, small.sha256]
    settled(site, medium, small)
