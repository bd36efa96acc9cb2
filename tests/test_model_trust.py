"""The rules about signed models without any I/O but the file of accepted editions."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from loader import model_trust
from loader.crypto.model_parts import ResourceName
from loader.crypto.signatures import SigningKey, find_signers
from loader.errors import Rollback, UntrustedPublisher
from loader.model_trust import ModelTrust
from tests.support.flips import flipped
from tests.support.publishers import ANNA, BEN, EVE, TRUSTED
from tests.support.signed_models import NAME, SignedModel, signed_model, unsigned

MODEL = signed_model(b"a model", 5)
OLDER, NEWER, OTHER = (signed_model(b"another", serial) for serial in (4, 6, 5))


@pytest.fixture
def trust(tmp_path: Path) -> ModelTrust:
    return ModelTrust(TRUSTED, tmp_path)


def accept(trust: ModelTrust, model: SignedModel) -> None:
    trust.require(NAME, model.small)
    trust.accept(NAME, model.small)


@pytest.mark.parametrize("keys", [(ANNA,), (BEN,), (EVE, BEN), (ANNA, BEN)])
def test_one_signature_of_a_trusted_key_is_enough(trust: ModelTrust, keys: tuple[SigningKey, ...]) -> None:
    trust.require(NAME, signed_model(b"a model", 5, *keys).small)


def altered(**fields: object) -> SignedModel:
    return replace(MODEL, small=replace(MODEL.small, **fields))  # type: ignore[arg-type]


UNTRUSTED = {
    "no signature": unsigned(MODEL),
    "a stranger's": signed_model(b"a model", 5, EVE),
    "for another folder": signed_model(b"a model", 5, signed_as=ResourceName("n", "x")),
    "for another filename": signed_model(b"a model", 5, signed_as=ResourceName("m", "y")),
    "for the same path without a folder": signed_model(b"a model", 5, signed_as=ResourceName("", "x")),
    "of another edition": altered(header=OTHER.small.header),
    "of another head": altered(head=OTHER.small.head),
    "a byte of the header": altered(header=MODEL.small.header.replace(b'"serial":5', b'"serial":9')),
    "a byte of the head": altered(head=flipped(MODEL.small.head, -1)),
    "a trusted key with a stranger's signature": altered(
        signatures=(replace(EVE.sign(MODEL.small.named(NAME)), key=ANNA.public),)
    ),
}


@pytest.mark.parametrize("model", UNTRUSTED.values(), ids=UNTRUSTED)
def test_anything_else_is_refused(trust: ModelTrust, model: SignedModel) -> None:
    trust.require(NAME, MODEL.small)
    with pytest.raises(UntrustedPublisher, match=r"m/x has no valid signature") as refusal:
        trust.require(NAME, model.small)
    assert "SIGNING_KEY" in refusal.value.hint


def test_a_signature_of_a_release_is_none_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loader.crypto.model_parts.MODEL_LABEL", b"azaion-loader/2 release\0")
    signed = signed_model(b"a model", 5)
    ModelTrust(TRUSTED, tmp_path).require(NAME, signed.small)
    monkeypatch.undo()
    with pytest.raises(UntrustedPublisher):
        ModelTrust(TRUSTED, tmp_path).require(NAME, signed.small)


@pytest.mark.parametrize("model", [OLDER, OTHER], ids=["older", "same serial"])
@pytest.mark.parametrize("restart", [False, True])
def test_there_is_no_way_back(trust: ModelTrust, tmp_path: Path, model: SignedModel, *, restart: bool) -> None:
    trust.require(NAME, model.small)  # until MODEL was accepted
    accept(trust, MODEL)
    trust = ModelTrust(TRUSTED, tmp_path) if restart else trust
    with pytest.raises(Rollback) as refusal:
        trust.require(NAME, model.small)
    for told in (f"serial {model.small.edition.serial} of {model.small.edition.created}", "serial 5 of 2026-03-05T12"):
        assert told in str(refusal.value)
    trust.require(NAME, MODEL.small)
    accept(trust, NEWER)
    with pytest.raises(Rollback):
        trust.require(NAME, MODEL.small)


def test_an_edition_that_was_only_looked_at_forbids_nothing(trust: ModelTrust) -> None:
    trust.require(NAME, NEWER.small)
    accept(trust, MODEL)


def test_an_older_edition_of_a_stranger_is_untrusted_and_no_rollback(trust: ModelTrust) -> None:
    accept(trust, MODEL)
    with pytest.raises(UntrustedPublisher):
        trust.require(NAME, signed_model(b"another", 4, EVE).small)


def test_names_do_not_share_their_editions(trust: ModelTrust) -> None:
    accept(trust, MODEL)
    name = ResourceName("m", "y")
    trust.require(name, signed_model(b"another", 1, name=name).small)


def test_further_signatures_change_nothing_about_the_edition(trust: ModelTrust) -> None:
    accept(trust, MODEL)
    named = MODEL.small.named(NAME)
    for keys in ((EVE, ANNA), (BEN,)):
        trust.require(NAME, replace(MODEL.small, signatures=tuple(key.sign(named) for key in keys)))


def test_an_edition_is_verified_once_and_anything_else_under_its_name_again(
    trust: ModelTrust, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = []

    def counting(*arguments: object) -> object:
        verified.append(arguments)
        return find_signers(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(model_trust, "find_signers", counting)
    for _ in range(3):
        trust.require(NAME, MODEL.small)
    assert len(verified) == 1
    with pytest.raises(UntrustedPublisher):
        trust.require(ResourceName("m", "y"), MODEL.small)
    with pytest.raises(UntrustedPublisher):
        trust.require(NAME, unsigned(MODEL).small)
    assert len(verified) == 3


def test_the_memory_of_verified_editions_is_bounded(trust: ModelTrust, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_trust, "MAX_VERIFIED", 2)
    names = [ResourceName("m", filename) for filename in "abc"]
    for name in names:
        trust.require(name, signed_model(b"a model", 1, name=name).small)
    assert list(trust._verified) == ["m/b", "m/c"]


def test_a_check_takes_milliseconds(trust: ModelTrust) -> None:
    """The bar is 5 ms, with a full head; the best of many counts, because other work disturbs each of them."""
    models = [signed_model(bytes(65_480), 5) for _ in range(10)]
    seconds = []
    for model in models:
        started = time.perf_counter()
        trust.require(NAME, model.small)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.005
