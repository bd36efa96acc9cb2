"""Loads, cuts, damage, evictions, kills and restarts in any order: no wrong bytes, no unverified final name."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from loader import patience
from loader.errors import LoaderError
from loader.model_cache.cache import ModelCache
from loader.resources import Plaintext
from tests.crypto.reference_archive import piece_digest
from tests.model_cache.memory_upstream import MemoryPart, memory_part
from tests.support.flips import flip_in_file
from tests.support.processes import poll
from tests.support.sealed_objects import seal_resource

MIB = 1 << 20
SECONDS = 20
# The contents need one segment, end at the boundary of a segment, or need a few segments.
CONTENTS = [
    random.Random(size).randbytes(size)  # noqa: S311  # a file's content, no secret
    for size in (70_000, MIB, 2 * MIB + 5, 3 * MIB + 77_777)
]
SEALED = [memory_part(f"part-{number}", content) for number, content in enumerate(CONTENTS)]
LARGEST = max(len(part.data) for part in SEALED)
LIMITS = [0, 1, 2 * MIB, 4 * MIB, 100 * MIB]

numbers = st.integers(0, len(SEALED) - 1)
fractions = st.floats(0, 1, exclude_max=True)


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.0005)
    monkeypatch.setattr(patience, "OUTAGE_WAIT", 0.001)


class CacheMachine(RuleBasedStateMachine):
    """A cache, an upstream, and paused loads, which have stopped reading but keep their part in use."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="cache-"))
        self.life = 0
        self.parts = [
            replace(part, cuts=[], damage_once=set(), opened=type(part.opened)(), fetches=0, sent=0) for part in SEALED
        ]
        self.paused: list[tuple[MemoryPart, Plaintext, bytearray]] = []
        # The digests of files that the test has damaged: their bytes may not match until a load repairs them.
        self.damaged: set[str] = set()
        self.limit = 0
        self.over_at_kill = 0
        self.cache = ModelCache(self.directory, 0, 0.02)

    @property
    def directory(self) -> Path:
        return self.root / f"life-{self.life}"

    @initialize(limit=st.sampled_from(LIMITS))
    def start_device(self, limit: int) -> None:
        """Start with an empty cache of this size limit."""
        self.limit = limit
        self.cache = ModelCache(self.directory, limit, 0.02)

    @rule(number=numbers)
    def load(self, number: int) -> None:
        """Load to the end. Everything must arrive if the upstream is healthy."""
        part = self.parts[number]
        healthy = not (part.down or part.cuts or part.damage_once)
        arrived = part.load(self.cache)
        self.over_at_kill = 0
        assert part.content.startswith(arrived)
        if healthy:
            assert arrived == part.content

    @rule(number=numbers, fraction=fractions)
    def start_load(self, number: int, fraction: float) -> None:
        """Start a load and pause it after a fraction of the content."""
        part = self.parts[number]
        try:
            plaintext = part.plaintext(self.cache)
        except LoaderError:
            return
        self.paused.append((part, plaintext, bytearray()))
        self.read_on(len(self.paused) - 1, int(fraction * len(part.content)))

    @precondition(lambda self: self.paused)
    @rule(data=st.data(), leave=st.booleans())
    def continue_load(self, data: st.DataObject, *, leave: bool) -> None:
        """Close a paused load, after reading it to the end unless `leave`."""
        index = data.draw(st.integers(0, len(self.paused) - 1))
        if not leave:
            self.read_on(index, None)
        self.paused.pop(index)[1].close()

    def read_on(self, index: int, until: int | None) -> None:
        part, plaintext, arrived = self.paused[index]
        try:
            for piece in plaintext:
                arrived += piece
                if until is not None and len(arrived) >= until:
                    break
        except LoaderError:
            pass
        assert part.content.startswith(bytes(arrived))

    @rule(number=numbers, cuts=st.lists(st.integers(0, 3 * MIB), min_size=1, max_size=8))
    def cut_next_responses(self, number: int, cuts: list[int]) -> None:
        """Cut the next responses of the upstream after these numbers of bytes."""
        self.parts[number].cuts = cuts

    @rule(number=numbers)
    def load_without_upstream(self, number: int) -> None:
        """Load while the upstream is down: the load yields an error, or what the cache has."""
        part = self.parts[number]
        part.down = True
        assert part.content.startswith(part.load(self.cache))
        part.down = False

    @rule(number=numbers, fraction=fractions)
    def damage_upstream_once(self, number: int, fraction: float) -> None:
        """Let the upstream send one byte wrongly the next time."""
        self.parts[number].damage_once = {int(fraction * len(self.parts[number].data))}

    @rule(number=numbers, fraction=fractions, kind=st.sampled_from(["big", "partial"]))
    def flip_bit(self, number: int, fraction: float, kind: str) -> None:
        """Change one bit of a cached file, whether it is in use or not."""
        path = self.directory / f"{self.parts[number].big.digest}.{kind}"
        if path.exists() and (size := path.stat().st_size):
            flip_in_file(path, int(fraction * size))
            self.damaged.add(path.stem)

    @rule(number=numbers, change=st.sampled_from(["remove", "shorten", "lengthen"]))
    def resize_or_remove(self, number: int, change: str) -> None:
        """Change the length of an idle file, or remove it."""
        self.wait_until_idle()
        path = self.directory / f"{self.parts[number].big.digest}.big"
        if self.paused or not path.exists():
            return
        if change == "remove":
            path.unlink()
            return
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size + (1 if change == "lengthen" else -1))
        self.damaged.add(path.stem)

    @rule(number=numbers)
    def discard(self, number: int) -> None:
        """Discard a part, as resources.py does when a part stays damaged."""
        self.cache.discard(self.parts[number].big.digest)

    @rule(number=numbers)
    def upload(self, number: int) -> None:
        """Upload the same content under a new key. A load then needs no fetch if the part fits into the cache."""
        old = self.parts[number]
        with self.cache.upload(len(old.data)) as file:
            small = seal_resource([old.content], old.name, file)
            file.flush()
            data = Path(file.name).read_bytes()
            new = replace(old, small=small, data=data, cuts=[], damage_once=set(), fetches=0, sent=0)
            with self.cache.adopting(file, new.big):
                pass
        self.parts[number] = new
        assert new.load(self.cache) == new.content
        if not self.limit or (len(data) <= self.limit and not self.paused):
            assert new.fetches == 0

    @rule()
    def restart(self) -> None:
        """Close all loads, wait until the cache is idle, and start again on the same directory."""
        self.close_all_loads()
        self.wait_until_idle()
        self.cache = ModelCache(self.directory, self.limit, 0.02)
        self.cache.remove_leftovers()

    @rule(number=numbers, fraction=fractions)
    def kill(self, number: int, fraction: float) -> None:
        """Kill the loader during a download: the next life gets a copy of the directory as it is at that moment."""
        part = self.parts[number]
        part.gate = 1 + int(fraction * (len(part.data) - 1))
        reader = self.cache.open(part.big, part.name.path, part.fetch)
        file = reader._file
        poll(lambda: file.whole or file.failure or file.available >= part.gate, SECONDS, "the gate is reached")  # type: ignore[operator]
        old, old_cache, in_use = self.directory, self.cache, 1 + len(self.paused)
        self.life += 1
        shutil.copytree(old, self.directory)
        part.opened.set()
        reader.close()
        self.close_all_loads()
        self.wait_until_cache_is_idle(old_cache)
        shutil.rmtree(old)
        part.gate = None
        part.opened.clear()
        self.over_at_kill = in_use
        self.cache = ModelCache(self.directory, self.limit, 0.02)
        self.cache.remove_leftovers()

    def close_all_loads(self) -> None:
        for _, plaintext, _ in self.paused:
            plaintext.close()
        self.paused.clear()

    def wait_until_idle(self) -> None:
        assert self.cache.wait_until_idle(SECONDS)

    def wait_until_cache_is_idle(self, cache: ModelCache) -> None:
        assert cache.wait_until_idle(SECONDS)

    @invariant()
    def files_are_sound(self) -> None:
        """Check all files and the size limit after every rule."""
        if not self.directory.exists():
            return
        self.wait_until_idle()
        in_use = {part.big.digest for part, _, _ in self.paused}
        for path in self.directory.glob("*.big"):
            if piece_digest(path.read_bytes()) == path.stem:
                self.damaged.discard(path.stem)
            else:
                assert path.stem in self.damaged
        sizes = {path: path.stat().st_size for path in self.files()}
        if self.limit:
            # Parts that were in use at a kill may exceed the limit until the next load evicts.
            assert sum(sizes.values()) <= self.limit + LARGEST * (len(in_use) + self.over_at_kill)
        assert not list(self.directory.glob(".*"))

    def files(self) -> Iterator[Path]:
        for kind in ("big", "partial"):
            yield from self.directory.glob(f"*.{kind}")

    def teardown(self) -> None:
        """Check that every part can be loaded once the cache is idle and the upstream is healthy."""
        self.close_all_loads()
        for part in self.parts:
            part.cuts, part.damage_once = [], set()
            if part.load(self.cache) != part.content:  # A load may report damage once, if the repair was damaged too.
                self.wait_until_cache_is_idle(self.cache)
                self.cache.discard(part.big.digest)
                assert part.load(self.cache) == part.content
        self.wait_until_cache_is_idle(self.cache)
        shutil.rmtree(self.root)


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
