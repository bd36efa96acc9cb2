"""A cache with a size limit, and a cache on a small disk: which entries are evicted, and what a full disk causes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.model_cache.directory import UPLOAD_PREFIX
from tests.model_cache.soundness import assert_sound
from tests.support import http_calls
from tests.support.left_files import left
from tests.support.loads import OpenLoad, get_status, load_hashed
from tests.support.processes import poll
from tests.support.range_sites import RangeSite, range_site
from tests.support.small_disk import fill, free_bytes, small_disk
from tests.support.stored_resources import FOLDER, MIB, StoredResource, content, store_resource

SECONDS = 20
DISK_SIZE = 40 * MIB
LIMIT = 10 * MIB


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> list[StoredResource]:
    """Return three resources, of which two fit into LIMIT."""
    directory = tmp_path_factory.mktemp("trio")
    return [store_resource(directory, name, 4 * MIB) for name in ("a", "b", "c")]


@pytest.fixture(scope="module")
def shared_bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RangeSite]:
    """Start the loader that all tests share. A test uses it through the fixture `bounded`."""
    directory = tmp_path_factory.mktemp("bounded")
    with range_site(directory / "site", MODEL_CACHE_MAX_BYTES=str(LIMIT)) as running:
        yield running


@pytest.fixture
def bounded(shared_bounded: RangeSite, trio: list[StoredResource]) -> RangeSite:
    """Return a site with a limit and an empty cache, whose upstream has the three resources."""
    shared_bounded.reset()
    for resource in trio:
        resource.publish(shared_bounded.api)
    return shared_bounded


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Mount a small disk and return its directory."""
    with small_disk(tmp_path_factory.mktemp("small") / "disk", DISK_SIZE) as mount_point:
        yield mount_point


@pytest.fixture(scope="module")
def shared_crowded(tmp_path_factory: pytest.TempPathFactory, disk: Path) -> Iterator[RangeSite]:
    """Start the loader that all tests share. A test uses it through the fixture `crowded`."""
    directory = tmp_path_factory.mktemp("crowded")
    with range_site(directory / "site", MODEL_CACHE_DIR=str(disk / "models")) as running:
        yield running


@pytest.fixture
def crowded(shared_crowded: RangeSite, disk: Path) -> RangeSite:
    """Return a site whose empty cache is alone on the small disk."""
    shared_crowded.reset()
    (disk / "filler").unlink(missing_ok=True)
    return shared_crowded


def cached(site: RangeSite) -> set[str]:
    site.wait_until_idle()
    return {path.stem for path in site.models.glob("*.big")}


def digests(*resources: StoredResource) -> set[str]:
    return {resource.big.digest for resource in resources}


def good_load(site: RangeSite, resource: StoredResource) -> None:
    assert load_hashed(site.url, resource.filename).sha256 == resource.sha256
    site.wait_until_idle()


def test_the_least_recently_used_entry_is_evicted_first(bounded: RangeSite, trio: list[StoredResource]) -> None:
    a, b, c = trio
    for resource in (a, b, a, c):  # b was used before a
        good_load(bounded, resource)
    assert cached(bounded) == digests(a, c)
    good_load(bounded, b)
    assert cached(bounded) == digests(b, c)
    assert_sound(bounded.models, *trio)


def test_a_load_by_a_second_reader_counts_as_use(bounded: RangeSite, trio: list[StoredResource]) -> None:
    a, b, c = trio
    good_load(bounded, a)
    with OpenLoad(bounded.url, a.filename, receive_buffer=1 << 16) as opened:
        assert opened.read(1) == 1
        good_load_beside(bounded, b)
        good_load_beside(bounded, a)
    good_load(bounded, c)
    assert cached(bounded) == digests(a, c)


def good_load_beside(site: RangeSite, resource: StoredResource) -> None:
    """Load `resource` while another part stays in use, and wait until no download runs."""
    assert load_hashed(site.url, resource.filename).sha256 == resource.sha256
    poll(lambda: not get_status(site.url)["cache"]["downloads"], SECONDS, "no download runs")


def test_an_entry_in_use_is_never_evicted(tmp_path: Path, medium: StoredResource, small: StoredResource) -> None:
    with range_site(tmp_path / "site", MODEL_CACHE_MAX_BYTES=str(65 * MIB)) as site:
        medium.publish(site.api)
        small.publish(site.api)
        good_load(site, medium)
        with OpenLoad(site.url, medium.filename, receive_buffer=1 << 16) as opened:
            assert opened.read(1) == 1
            assert load_hashed(site.url, small.filename).sha256 == small.sha256
            assert (site.models / f"{medium.big.digest}.big").exists()
            assert opened.finish().sha256 == medium.sha256
        assert sum(path.stat().st_size for path in left(site.models.iterdir())) <= 65 * MIB + small.big.size
        site.wait_until_idle()
        assert sum(path.stat().st_size for path in left(site.models.iterdir())) <= 65 * MIB


def test_a_limit_below_the_size_of_one_entry_leaves_no_entry(tmp_path: Path, trio: list[StoredResource]) -> None:
    with range_site(tmp_path / "site", MODEL_CACHE_MAX_BYTES=str(MIB)) as site:
        trio[0].publish(site.api)
        for _ in range(2):
            good_load(site, trio[0])
            assert left(site.models.iterdir()) == []


def test_an_old_partial_file_is_evicted_too(bounded: RangeSite, trio: list[StoredResource]) -> None:
    leftover = bounded.models / f"{'0' * 64}.partial"
    leftover.write_bytes(bytes(8 * MIB))
    good_load(bounded, trio[0])
    assert cached(bounded) == digests(trio[0])
    assert_sound(bounded.models, *trio)


def test_old_entries_are_evicted_when_the_disk_is_full(
    crowded: RangeSite, disk: Path, trio: list[StoredResource]
) -> None:
    a, b, c = trio
    for resource in trio:
        resource.publish(crowded.api)
    good_load(crowded, a)
    good_load(crowded, b)
    fill(disk, 3 * MIB)
    good_load(crowded, c)
    assert cached(crowded) == digests(b, c)
    assert_sound(crowded.models, *trio)


def test_a_full_disk_is_reported_before_the_response_starts(
    crowded: RangeSite, disk: Path, trio: list[StoredResource]
) -> None:
    trio[0].publish(crowded.api)
    filler = fill(disk, 300_000)
    free = free_bytes(disk)
    reply = http_calls.load(crowded.url, FOLDER, trio[0].filename)
    problem = reply.problem(507, "DISK_SPACE")
    assert f"{crowded.models} needs at least {trio[0].big.size} bytes, {free} bytes are free" in problem["detail"]
    assert crowded.api.requests("GET", trio[0].big_path) == []
    crowded.wait_until_idle()
    assert left(crowded.models.iterdir()) == []
    filler.unlink()
    good_load(crowded, trio[0])


def test_a_disk_that_fills_during_a_load_cuts_the_response_and_leaves_no_file(
    crowded: RangeSite, disk: Path, tmp_path: Path
) -> None:
    large = store_resource(tmp_path, "large", 30 * MIB)
    large.publish(crowded.api).rate = 4 * MIB
    with OpenLoad(crowded.url, large.filename) as opened:
        assert opened.read(1) == 1
        filler = fill(disk, 10 * MIB)
        crowded.api.resume()
        done = opened.finish()
    assert done.cut
    assert done.arrived > 8 * MIB
    crowded.wait_until_idle()
    filler.unlink()
    assert left(crowded.models.iterdir()) == []
    assert free_bytes(disk) > DISK_SIZE - MIB
    assert crowded.audit_lines("load")[-1]["code"] == "DISK_SPACE"


def test_an_entry_in_use_is_not_evicted_when_the_disk_is_full(
    crowded: RangeSite, disk: Path, trio: list[StoredResource]
) -> None:
    a, b, _ = trio
    for resource in (a, b):
        resource.publish(crowded.api)
    good_load(crowded, a)
    with OpenLoad(crowded.url, a.filename, receive_buffer=1 << 14) as opened:
        assert opened.read(1) == 1
        filler = fill(disk, MIB // 2)
        assert load_hashed(crowded.url, b.filename).code == "DISK_SPACE"
        assert opened.finish().sha256 == a.sha256
    assert cached(crowded) == digests(a)
    filler.unlink()
    good_load(crowded, b)


def upload(site: RangeSite, filename: str, size: int, *, file_first: bool = False) -> http_calls.Reply:
    data = b"".join(content(filename, size))
    return http_calls.upload(site.url, FOLDER, filename, data, file_first=file_first)


@pytest.mark.parametrize("file_first", [False, True])
def test_an_upload_leaves_its_big_part_in_the_cache(bounded: RangeSite, *, file_first: bool) -> None:
    assert upload(bounded, "new", 3 * MIB, file_first=file_first).status == 200
    (path,) = left(bounded.models.iterdir())
    assert path.suffix == ".big"
    loaded = http_calls.load(bounded.url, FOLDER, "new")
    assert loaded.body == b"".join(content("new", 3 * MIB))
    assert bounded.api.requests("GET", f"{FOLDER}/new.{path.stem}.big") == []
    assert path.stat().st_mode & 0o777 == 0o600
    assert get_status(bounded.url)["cache"]["entries"] == 1


def test_an_upload_respects_the_limit(bounded: RangeSite, trio: list[StoredResource]) -> None:
    for resource in trio[:2]:
        good_load(bounded, resource)
    assert upload(bounded, "new", 4 * MIB).status == 200
    kept = cached(bounded)
    assert len(kept) == 2
    assert trio[1].big.digest in kept
    assert upload(bounded, "huge", 12 * MIB).status == 200  # It is larger than the limit, so nothing is evicted for it.
    assert cached(bounded) == kept


def test_a_failed_upload_leaves_no_file(bounded: RangeSite) -> None:
    form = http_calls.form(http_calls.part("file", bytes(2 * MIB), filename="x"), http_calls.part("folder", b".."))
    assert http_calls.post_form(bounded.url, "/upload/new", form).status == 422
    assert left(bounded.models.iterdir()) == []


def test_the_files_of_a_killed_upload_are_removed_at_the_next_start(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / f"{UPLOAD_PREFIX}abc").write_bytes(b"left")
    kept = models / "unlocked-manifest.json"
    kept.write_text("{}")
    with range_site(tmp_path / "site", MODEL_CACHE_DIR=str(models)):
        assert left(models.iterdir()) == [kept]


@pytest.mark.parametrize("file_first", [False, True])
def test_an_upload_on_a_nearly_full_disk_evicts_old_entries(
    crowded: RangeSite, disk: Path, trio: list[StoredResource], *, file_first: bool
) -> None:
    for resource in trio:
        resource.publish(crowded.api)
        good_load(crowded, resource)
    fill(disk, MIB)
    size = 5 * MIB
    assert upload(crowded, "new", size, file_first=file_first).status == 200
    kept = cached(crowded)
    assert trio[2].big.digest in kept or file_first
    assert trio[0].big.digest not in kept
    assert http_calls.load(crowded.url, FOLDER, "new").body == b"".join(content("new", size))


def test_an_upload_too_large_for_the_disk_is_refused_and_evicts_nothing(
    crowded: RangeSite, disk: Path, trio: list[StoredResource]
) -> None:
    trio[0].publish(crowded.api)
    good_load(crowded, trio[0])
    fill(disk, MIB)
    before = cached(crowded)
    data = bytes(8 * MIB)
    http_calls.upload(crowded.url, FOLDER, "new", data).problem(507, "DISK_SPACE")
    assert cached(crowded) == before
    assert [path for path in crowded.models.iterdir() if path.name.startswith(".")] == []
