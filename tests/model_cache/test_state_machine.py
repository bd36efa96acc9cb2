"""Any order of loads, cuts, damage, evictions, kills and restarts: never wrong bytes, and a name means verified."""

from __future__ import annotations

import hashlib
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

from loader.crypto.model_parts import seal_resource
from loader.errors import LoaderError
from loader.model_cache import download as transfer
from loader.model_cache.cache import ModelCache
from loader.resources import Plaintext
from tests.support.memory_upstream import MemoryPart, memory_part
from tests.support.processes import poll

MIB = 1 << 20
SECONDS = 20
# One segment, the border of one, a few.
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
    monkeypatch.setattr(transfer, "FIRST_BACKOFF_SECONDS", 0.0005)


class CacheMachine(RuleBasedStateMachine):
    """A cache, an upstream, and loads that stand still in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="cache-"))
        self.life = 0
        self.parts = [
            replace(part, cuts=[], damage_once=set(), opened=type(part.opened)(), fetches=0, sent=0) for part in SEALED
        ]
        self.standing: list[tuple[MemoryPart, Plaintext, bytearray]] = []
        # Files that the test itself has damaged: their names need not be right until they are healed.
        self.tainted: set[str] = set()
        self.limit = 0
        self.over_at_kill = 0
        self.cache = ModelCache(self.directory, 0)

    @property
    def directory(self) -> Path:
        return self.root / f"life-{self.life}"

    @initialize(limit=st.sampled_from(LIMITS))
    def begin(self, limit: int) -> None:
        """A new device."""
        self.limit = limit
        self.cache = ModelCache(self.directory, limit)

    @rule(number=numbers)
    def load(self, number: int) -> None:
        """To the end. With a healthy upstream and a file that nobody damaged it must arrive."""
        part = self.parts[number]
        healthy = not (part.down or part.cuts or part.damage_once)
        arrived = part.load(self.cache)
        self.over_at_kill = 0
        assert part.content.startswith(arrived)
        if healthy:
            assert arrived == part.content

    @rule(number=numbers, fraction=fractions)
    def begin_load(self, number: int, fraction: float) -> None:
        """And stop reading in the middle, without leaving."""
        part = self.parts[number]
        try:
            plaintext = part.plaintext(self.cache)
        except LoaderError:
            return
        self.standing.append((part, plaintext, bytearray()))
        self.read_on(len(self.standing) - 1, int(fraction * len(part.content)))

    @precondition(lambda self: self.standing)
    @rule(data=st.data(), leave=st.booleans())
    def go_on(self, data: st.DataObject, *, leave: bool) -> None:
        """Of a standing load: to the end, or away."""
        index = data.draw(st.integers(0, len(self.standing) - 1))
        if not leave:
            self.read_on(index, None)
        self.standing.pop(index)[1].close()

    def read_on(self, index: int, until: int | None) -> None:
        part, plaintext, arrived = self.standing[index]
        try:
            for piece in plaintext:
                arrived += piece
                if until is not None and len(arrived) >= until:
                    break
        except LoaderError:
            pass
        assert part.content.startswith(bytes(arrived))

    @rule(number=numbers, cuts=st.lists(st.integers(0, 3 * MIB), min_size=1, max_size=8))
    def cut(self, number: int, cuts: list[int]) -> None:
        """The next answers."""
        self.parts[number].cuts = cuts

    @rule(number=numbers)
    def fail_and_mend(self, number: int) -> None:
        """A load while nobody answers gives an error, or what the cache has."""
        part = self.parts[number]
        part.down = True
        assert part.content.startswith(part.load(self.cache))
        part.down = False

    @rule(number=numbers)
    def change_etag(self, number: int) -> None:
        """The same bytes under another ETag."""
        self.parts[number].etag = f'"{hash((number, self.parts[number].etag))}"'

    @rule(number=numbers, fraction=fractions)
    def damage_upstream_once(self, number: int, fraction: float) -> None:
        """A byte that comes wrong the next time."""
        self.parts[number].damage_once = {int(fraction * len(self.parts[number].data))}

    @rule(number=numbers, fraction=fractions, kind=st.sampled_from(["big", "partial"]))
    def rot(self, number: int, fraction: float, kind: str) -> None:
        """A bit of a cached file changes, in use or not."""
        path = self.directory / f"{self.parts[number].big.sha256}.{kind}"
        if path.exists() and (size := path.stat().st_size):
            with path.open("r+b") as file:
                file.seek(int(fraction * size))
                byte = file.read(1)[0]
                file.seek(int(fraction * size))
                file.write(bytes([byte ^ 1]))
            self.tainted.add(path.stem)

    @rule(number=numbers, change=st.sampled_from(["remove", "shorten", "lengthen"]))
    def disturb(self, number: int, change: str) -> None:
        """Somebody changes the length of an idle file, or removes it."""
        self.rest()
        path = self.directory / f"{self.parts[number].big.sha256}.big"
        if self.standing or not path.exists():
            return
        if change == "remove":
            path.unlink()
            return
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size + (1 if change == "lengthen" else -1))
        self.tainted.add(path.stem)

    @rule(number=numbers)
    def discard(self, number: int) -> None:
        """What resources.py does with a part that stayed damaged."""
        self.cache.discard(self.parts[number].big.sha256)

    @rule(number=numbers)
    def upload(self, number: int) -> None:
        """The same content under a new key; its part is there without a fetch, if it may stay."""
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
        if not self.limit or (len(data) <= self.limit and not self.standing):
            assert new.fetches == 0

    @rule()
    def restart(self) -> None:
        """In an orderly way."""
        self.leave_all()
        self.rest()
        self.cache = ModelCache(self.directory, self.limit)
        self.cache.remove_leftovers()

    @rule(number=numbers, fraction=fractions)
    def kill(self, number: int, fraction: float) -> None:
        """In the middle of a transfer: what is on the disk at that moment is all that the next life has."""
        part = self.parts[number]
        part.gate = 1 + int(fraction * (len(part.data) - 1))
        reader = self.cache.open(part.big, part.name.path, part.fetch)
        file = reader._file
        poll(lambda: file.whole or file.failure or file.available >= part.gate, SECONDS, "the gate is reached")  # type: ignore[operator]
        old, old_cache, in_use = self.directory, self.cache, 1 + len(self.standing)
        self.life += 1
        shutil.copytree(old, self.directory)
        part.opened.set()
        reader.close()
        self.leave_all()
        self.rest_of(old_cache)
        shutil.rmtree(old)
        part.gate = None
        part.opened.clear()
        self.over_at_kill = in_use
        self.cache = ModelCache(self.directory, self.limit)
        self.cache.remove_leftovers()

    def leave_all(self) -> None:
        for _, plaintext, _ in self.standing:
            plaintext.close()
        self.standing.clear()

    def rest(self) -> None:
        assert self.cache.wait_until_idle(SECONDS)

    def rest_of(self, cache: ModelCache) -> None:
        assert cache.wait_until_idle(SECONDS)

    @invariant()
    def in_order(self) -> None:
        """Checked after every rule."""
        if not self.directory.exists():
            return
        self.rest()
        in_use = {part.big.sha256 for part, _, _ in self.standing}
        for path in self.directory.glob("*.big"):
            if hashlib.sha256(path.read_bytes()).hexdigest() == path.stem:
                self.tainted.discard(path.stem)
            else:
                assert path.stem in self.tainted
        sizes = {path: path.stat().st_size for path in self.files()}
        if self.limit:
            # What was in use when it was killed is put right by the next use.
            assert sum(sizes.values()) <= self.limit + LARGEST * (len(in_use) + self.over_at_kill)
        assert not list(self.directory.glob(".*"))

    def files(self) -> Iterator[Path]:
        for kind in ("big", "partial"):
            yield from self.directory.glob(f"*.{kind}")

    def teardown(self) -> None:
        """A last look: once all is quiet and the upstream healthy, everything arrives."""
        self.leave_all()
        for part in self.parts:
            part.cuts, part.damage_once = [], set()
            if part.load(self.cache) != part.content:  # damage within damage is told once
                self.rest_of(self.cache)
                self.cache.discard(part.big.sha256)
                assert part.load(self.cache) == part.content
        self.rest_of(self.cache)
        shutil.rmtree(self.root)


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
