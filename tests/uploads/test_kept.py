"""Connections that compete for one kept upload. The login and what stores the model are fakes."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from loader.background import start_daemon
from loader.crypto.model_parts import ResourceName
from loader.errors import BodyTruncated, Checkpoint, LoaderError
from loader.uploads import keeping, kept
from loader.uploads.keeping import MAX_LEFT, KeptUploads, Place
from loader.uploads.kept import Stored, Turn
from loader.uploads.model import UploadForm
from tests.support.processes import poll

NAME = ResourceName("m", "x")
BEGIN, REST = b"ab", [b"c", b"d"]
ROUNDS = 300
SECONDS = 10
LOOK_SECONDS = 0.01


class FirstForm:
    """What a kept upload asks of the form that began it."""

    length = 100

    def file_size(self) -> int | None:
        return 4


class Model:
    """Stores the model in memory, and waits until it may end. One that is deaf does not ask whether it is wanted."""

    def __init__(self) -> None:
        self.content = b""
        self.is_deaf = False
        self.arrived, self.may_end, self.stored = threading.Event(), threading.Event(), threading.Event()

    def store(self, _: str, form: UploadForm, wanted: Checkpoint) -> Stored:
        for piece in form.file_pieces():
            self.content += piece
        form.folder_at_end()
        self.arrived.set()
        while not self.may_end.wait(LOOK_SECONDS):
            if not self.is_deaf:
                wanted()
        self.stored.set()
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


def send_whole(uploads: KeptUploads, content: bytes, name: ResourceName = NAME) -> Future[Stored]:
    """Begin an upload and bring all of it. Return what its connection will get."""
    turn = uploads.begin(name, FirstForm())  # type: ignore[arg-type]  # the rest of the form is never read
    turn.bring([content])

    def finish() -> Stored:
        with turn:
            return turn.finish()

    return start_daemon(finish, "connection")


def kept_in_turn(*models: Model) -> tuple[KeptUploads, list[bytes]]:
    """Return uploads that use one model after the other, and the contents in the order in which they are stored."""
    unused, order = iter(models), list[bytes]()

    def store(filename: str, form: UploadForm, wanted: Checkpoint) -> Stored:
        model = next(unused)
        stored = model.store(filename, form, wanted)
        order.append(model.content)
        return stored

    return KeptUploads(store), order


@pytest.mark.parametrize("is_deaf", [False, True], ids=["that asks", "in its last request"])
def test_an_upload_that_is_replaced_never_ends_after_the_later_one(*, is_deaf: bool) -> None:
    older, newer = Model(), Model()
    older.is_deaf = is_deaf
    newer.may_end.set()
    uploads, order = kept_in_turn(older, newer)
    first = send_whole(uploads, b"older")
    assert older.arrived.wait(SECONDS)
    second = send_whole(uploads, b"newer")
    poll(lambda: newer.content == b"newer", SECONDS, "the later file is read")
    if is_deaf:
        older.may_end.set()
    assert second.result(SECONDS) == (NAME, len(b"newer"))
    assert isinstance(first.exception(SECONDS), BodyTruncated) is not is_deaf
    assert order == ([b"older", b"newer"] if is_deaf else [b"newer"])


def test_the_last_of_many_waits_for_each_that_may_still_publish() -> None:
    older, unread, waits, newest = (Model() for _ in range(4))
    older.is_deaf = True
    waits.may_end.set()
    newest.may_end.set()
    uploads, order = kept_in_turn(older, unread, waits, newest)
    first = send_whole(uploads, b"older")
    assert older.arrived.wait(SECONDS)
    # It ends long before the first one, because its file is not whole.
    second = start_daemon(uploads.begin(NAME, FirstForm()).finish, "connection")  # type: ignore[arg-type]  # only begun
    third = send_whole(uploads, b"waits")
    assert isinstance(second.exception(SECONDS), BodyTruncated)
    poll(lambda: waits.content == b"waits", SECONDS, "the third file is read")
    fourth = send_whole(uploads, b"newest")
    assert isinstance(third.exception(SECONDS), BodyTruncated)
    poll(lambda: newest.content == b"newest", SECONDS, "the fourth file is read")
    older.may_end.set()
    assert first.result(SECONDS) == (NAME, len(b"older"))
    assert fourth.result(SECONDS) == (NAME, len(b"newest"))
    assert order == [b"older", b"newest"]


def test_whole_files_are_stored_without_their_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "KEEP_SECONDS", 0.0)
    models = {f"x{number}": Model() for number in range(MAX_LEFT)}
    uploads = KeptUploads(lambda filename, form, wanted: models[filename].store(filename, form, wanted))
    for filename, model in models.items():
        name = ResourceName("m", filename)
        connection = send_whole(uploads, b"whole", name)
        assert model.arrived.wait(SECONDS)
        # The client asks, and does not come back.
        uploads.place(name)
        assert isinstance(connection.exception(SECONDS), BodyTruncated)
    for filename, model in models.items():
        assert uploads.place(ResourceName("m", filename)) == Place(len(b"whole"), complete=False)
        model.may_end.set()
        assert model.stored.wait(SECONDS)


def test_of_too_many_whole_files_the_one_that_was_left_first_is_dropped() -> None:
    models = {f"x{number}": Model() for number in range(MAX_LEFT + 1)}
    uploads = KeptUploads(lambda filename, form, wanted: models[filename].store(filename, form, wanted))
    for filename, model in models.items():
        name = ResourceName("m", filename)
        send_whole(uploads, b"whole", name)
        assert model.arrived.wait(SECONDS)
        uploads.place(name)
    places = [uploads.place(ResourceName("m", filename)).offset for filename in models]
    assert places == [0, *[len(b"whole")] * MAX_LEFT]
    for model in models.values():
        model.may_end.set()
