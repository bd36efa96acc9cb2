"""Who may replace a model: with PUBLISHER_KEYS set, nobody but a publisher, and never by an older edition.

Each attacker has what the name says and tries everything that it permits. A load then either fails, or returns the
newest edition, whose bytes are right; not one forged byte comes out. The operator has an account, and so the key of
every model: the forged big parts here authenticate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from loader.accepted_models import NAME as MARKS
from loader.crypto.pieces import PieceHash
from loader.errors import LoaderError, Rollback, UntrustedPublisher
from loader.model_cache.cache import ModelCache
from loader.model_trust import ModelTrust
from loader.resources import Choose, ResourceStore, Span, whole
from tests.support.faulty_api import FaultyApi
from tests.support.publishers import EVE, TRUSTED
from tests.support.signed_models import NAME, SignedModel, signed_model, unsigned
from tests.support.stores import read_whole

pytest_plugins = ("tests.support.store_fixtures",)

START = bytes(range(256)) * 512  # more than the head
CONTENT = START + b"published" * 250_000
EVIL = START + b"malicious" * 250_000
OLD = signed_model(START + b"published" * 200_000, 1)
NEW = signed_model(CONTENT, 2)
EVES = signed_model(EVIL, 3, EVE)
OTHER = signed_model(EVIL, 3, name=replace(NAME, filename="y"))
FORGED = NEW.resealed(EVIL)


@dataclass
class World:
    """A device with trusted publishers, whose cache is `models`, and its API."""

    api: FaultyApi
    models: Path

    def restart(self) -> ResourceStore:
        """Return the store of a loader that has just started."""
        cache = ModelCache(self.models, 0, 1)
        cache.remove_leftovers()
        return ResourceStore(self.models, cache, 1, trust=ModelTrust(TRUSTED, self.models))

    def serve(self, small: SignedModel, big: bytes | None = None) -> None:
        """Let the API have this small part as the model, and these bytes as its big part."""
        self.api.objects[f"/resources/{NAME.small}"] = small.small.to_bytes()
        self.api.objects[small.big_path.replace("/y.", "/x.")] = small.big if big is None else big

    def serve_bytes(self, small: bytes) -> None:
        """Let the API have these bytes as the small part."""
        self.api.objects[f"/resources/{NAME.small}"] = small

    def put(self, suffix: str, data: bytes) -> None:
        """Write a file of the cached big part of the newest edition."""
        (self.models / f"{NEW.digest}.{suffix}").write_bytes(data)


def digests_of(data: bytes) -> bytes:
    found = PieceHash()
    found.update(data)
    return found.digests()


def with_head_of(model: SignedModel, other: SignedModel) -> SignedModel:
    return replace(model, small=replace(model.small, head=other.small.head))


def local_replay(world: World) -> None:
    """The old big part under the name of the new one, and no memory of what was accepted."""
    world.put("big", OLD.big)
    world.put("pieces", digests_of(OLD.big))


def local_forgery(world: World) -> None:
    world.put("big", FORGED)
    world.put("pieces", digests_of(FORGED))


def local_mixture(world: World) -> None:
    world.put("big", NEW.big[: len(FORGED) // 2] + FORGED[len(FORGED) // 2 :])


SMALL, BIG = NEW.small.to_bytes(), NEW.big
ATTACKS: dict[str, Callable[[World], None]] = {
    "API: unsigned": lambda world: world.serve(unsigned(EVES)),
    "API: signed by a stranger": lambda world: world.serve(EVES),
    "API: replayed": lambda world: world.serve(OLD),
    "API: another model": lambda world: world.serve(OTHER),
    "API: head of one, header of another": lambda world: world.serve(with_head_of(NEW, EVES)),
    "API: small part of one, big part of another": lambda world: world.serve(NEW, OLD.big),
    "API: truncated small part": lambda world: world.serve_bytes(SMALL[:-1]),
    "API: truncated big part": lambda world: world.serve(NEW, BIG[:-1]),
    "CDN: forged": lambda world: world.serve(NEW, BIG[:100] + bytes(len(BIG) - 100)),
    "CDN: replayed": lambda world: world.serve(NEW, OLD.big),
    "CDN: mixed": lambda world: world.serve(NEW, BIG[: 1 << 20] + OLD.big[1 << 20 :]),
    "CDN: truncated": lambda world: world.serve(NEW, BIG[: 1 << 20]),
    "operator: uploads unsigned": lambda world: world.serve(unsigned(EVES)),
    "operator: signatures of another edition": lambda world: world.serve(
        replace(EVES, small=replace(EVES.small, signatures=NEW.small.signatures))
    ),
    "operator: seals another big part under the same key": lambda world: world.serve(NEW, FORGED),
    "operator: uploads the old edition again": lambda world: world.serve(OLD),
    "operator: mixes old header and new head": lambda world: world.serve(with_head_of(OLD, NEW)),
    "operator: truncates what it seals": lambda world: world.serve(NEW, FORGED[:-1]),
    "local user: forged": local_forgery,
    "local user: forged without digests": lambda world: world.put("big", FORGED),
    "local user: replayed": local_replay,
    "local user: mixed": local_mixture,
    "local user: truncated": lambda world: world.put("big", BIG[:-1]),
    "local user: a forged start": lambda world: world.put("partial", FORGED[: 1 << 20]),
}


@pytest.fixture
def world(logged_in: FaultyApi, tmp_path: Path) -> World:
    """Return a device that has no model yet, at an API with the newest edition."""
    made = World(logged_in, tmp_path / "models")
    made.models.mkdir()
    made.serve(NEW)
    return made


def outcome(store: ResourceStore, choose: Choose = whole) -> tuple[str, bytes]:
    """Load the model, and return the code of the error or "ok", and the bytes that came out."""
    arrived = bytearray()
    try:
        plaintext = store.load(NAME, choose)
        try:
            for piece in plaintext:
                arrived += piece
        finally:
            plaintext.close()
    except LoaderError as exc:
        return exc.code, bytes(arrived)
    return "ok", bytes(arrived)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_no_forged_byte_comes_out(
    world: World, attack: Callable[[World], None], *, warm: bool, restarted: bool
) -> None:
    store = world.restart()
    if warm:
        assert outcome(store) == ("ok", CONTENT)
    if restarted:
        store = world.restart()
    attack(world)
    for _ in range(2):
        code, arrived = outcome(store)
        if arrived == OLD.content:
            # No device knows that there is a newer edition before it has loaded one.
            assert not warm
            continue
        assert (code, arrived) in [("ok", CONTENT), (code, b"")]
        assert code in ("ok", "UNTRUSTED_PUBLISHER", "ROLLBACK", "RESOURCE_CORRUPT")
    world.serve(NEW)
    assert outcome(store) == ("ok", CONTENT)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_no_forged_byte_comes_out_of_a_range(world: World, attack: Callable[[World], None]) -> None:
    span = Span(1_200_000, 1_300_000)
    expected = {model.content[span.begin : span.end] for model in (NEW, OLD)} | {b""}
    store = world.restart()
    attack(world)
    for _ in range(2):
        code, arrived = outcome(store, lambda _: span)
        assert arrived in expected
        assert code in ("ok", "UNTRUSTED_PUBLISHER", "ROLLBACK", "RESOURCE_CORRUPT")


PASSES_WITHOUT_KEYS = {
    "signed by nobody": (unsigned(EVES), None),
    "older": (OLD, None),
    "a big part sealed under the same key": (NEW, FORGED),
}


@pytest.mark.parametrize(("small", "big"), PASSES_WITHOUT_KEYS.values(), ids=PASSES_WITHOUT_KEYS)
def test_without_keys_these_come_out(world: World, small: SignedModel, big: bytes | None) -> None:
    """The counterpart of the test above: the attacks are real."""
    world.serve(NEW)
    store = ResourceStore(world.models, ModelCache(world.models, 0, 1), 1)
    assert read_whole(store.load(NAME)) == CONTENT
    store = ResourceStore(world.models, ModelCache(world.models, 0, 1), 1)
    for file in world.models.iterdir():
        file.unlink()
    world.serve(small, big)
    assert read_whole(store.load(NAME)) in (EVIL, OLD.content)


def test_an_unsigned_model_is_refused_before_its_big_part_is_asked_for(world: World) -> None:
    world.serve(unsigned(NEW))
    with pytest.raises(UntrustedPublisher):
        world.restart().load(NAME)
    assert world.api.requests("GET", NEW.big_path) == []


def test_a_model_in_the_cache_is_refused_once_its_publisher_is_not_trusted(world: World) -> None:
    """The cache was filled before PUBLISHER_KEYS was set."""
    world.serve(EVES)
    before = ResourceStore(world.models, ModelCache(world.models, 0, 1), 1)
    assert read_whole(before.load(NAME)) == EVIL
    assert outcome(world.restart()) == ("UNTRUSTED_PUBLISHER", b"")


def test_an_older_edition_is_refused_also_after_its_parts_were_evicted(world: World) -> None:
    store = world.restart()
    assert outcome(store) == ("ok", CONTENT)
    for file in world.models.glob("*.big"):
        file.unlink()
    world.serve(OLD)
    for each in (store, world.restart()):
        with pytest.raises(Rollback, match=r"serial 1 of 2026-03-01.*serial 2 of 2026-03-02"):
            each.load(NAME)


def test_a_device_whose_memory_was_erased_accepts_an_older_signed_edition(world: World) -> None:
    """What remains possible, as docs/security.md says."""
    assert outcome(world.restart()) == ("ok", CONTENT)
    (world.models / MARKS).unlink()
    world.serve(OLD)
    assert outcome(world.restart()) == ("ok", OLD.content)


def test_an_edition_that_could_not_be_read_does_not_forbid_the_one_before(world: World) -> None:
    world.serve(OLD)
    store = world.restart()
    assert outcome(store) == ("ok", OLD.content)
    world.serve(NEW, FORGED)
    assert outcome(store) == ("RESOURCE_CORRUPT", b"")
    world.serve(OLD)
    assert outcome(store) == ("ok", OLD.content)
