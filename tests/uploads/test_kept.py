"""Connections that compete for one kept upload. The login and what stores the model are fakes."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from loader.crypto.model_parts import ResourceName
from loader.errors import BodyTruncated, LoaderError
from loader.uploads import keeping, kept
from loader.uploads.keeping import KeptUploads, Place
from loader.uploads.kept import Stored, Turn
from loader.uploads.model import UploadForm
from tests.support.processes import poll

NAME = ResourceName("m", "x")
BEGIN, REST = b"ab", [b"c", b"d"]
ROUNDS = 300
SECONDS = 10


class FirstForm:
    """What a kept upload asks of the form that began it."""

    length = 100

    def file_size(self) -> int | None:
        return 4


class Model:
    """Stores the model in memory, and waits until it may end."""

    def __init__(self) -> None:
        self.content = b""
        self.may_end = threading.Event()

    def store(self, _: str, form: UploadForm) -> Stored:
        for piece in form.file_pieces():
            self.content += piece
        self.may_end.wait()
        return NAME, len(self.content)


@pytest.fixture(autouse=True)
def logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    client = SimpleNamespace(user="somebody@example.com", checkpoint=lambda: lambda: None)
    for module in (keeping, kept):
        monkeypatch.setattr(module, "get_api_client", lambda: client)


@pytest.fixture
def busy_threads() -> Iterator[None]:
    """Let threads take turns after every few instructions."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def begun(model: Model) -> KeptUploads:
    """Return uploads with one whose connection has brought BEGIN and ended."""
    uploads = KeptUploads(model.store)
    with uploads.begin(NAME, FirstForm()) as turn:  # type: ignore[arg-type]  # the rest of the form is never read
        turn.bring([BEGIN])
    return uploads


def resumed(uploads: KeptUploads) -> Turn:
    return uploads.resume(NAME, len(BEGIN), hashlib.sha256(BEGIN).hexdigest())


@pytest.mark.usefixtures("busy_threads")
def test_of_two_connections_that_go_on_at_the_same_time_one_does() -> None:
    # Such as a request that waited in a queue while its client came back with another one.
    def go_on() -> None:
        together.wait()
        try:
            with resumed(uploads) as turn:
                turn.bring(REST)
                turn.finish()
            outcomes.append("ok")
        except LoaderError:
            outcomes.append("refused")

    for _ in range(ROUNDS):
        model, together, outcomes = Model(), threading.Barrier(2), list[str]()
        model.may_end.set()
        uploads = begun(model)
        threads = [threading.Thread(target=go_on) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (model.content, sorted(outcomes)) == (BEGIN + b"".join(REST), ["ok", "refused"])


def test_a_connection_waits_for_the_model_until_its_client_comes_back() -> None:
    # Otherwise each cut would cost one more transfer slot, for as long as the API takes.
    model, failures = Model(), list[LoaderError]()
    uploads = begun(model)

    def finish(turn: Turn) -> None:
        try:
            turn.finish()
        except LoaderError as exc:
            failures.append(exc)

    with resumed(uploads) as turn:
        waiting = threading.Thread(target=finish, args=(turn,), daemon=True)
        waiting.start()
        poll(lambda: model.content == BEGIN, SECONDS, "all is read")
        place = uploads.place(NAME)
        waiting.join(SECONDS)
        assert not waiting.is_alive()
    assert [type(failure) for failure in failures] == [BodyTruncated]
    assert place == Place(len(BEGIN), complete=False)
    with resumed(uploads) as turn:
        model.may_end.set()
        assert turn.finish() == (NAME, len(BEGIN))
