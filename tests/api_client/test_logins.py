"""Several logins and renewals at a time: none waits for another, and the right one is kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from loader.api_client.logins import Login, Logins
from loader.errors import ApiUnreachable, Checkpoint, LoaderError, LoginRejected, NotLoggedIn
from tests.support.processes import poll

SECONDS = 20.0


class Api:
    """Holds each request for a token until the test answers it, by e-mail."""

    def __init__(self) -> None:
        self._answers: dict[str, list[Future[str]]] = {}
        self._lock = threading.Lock()

    def request_token(self, email: str, _password: str, _checkpoint: Checkpoint) -> str:
        answer: Future[str] = Future()
        with self._lock:
            self._answers.setdefault(email, []).append(answer)
        return answer.result(SECONDS)

    def asked(self, email: str) -> int:
        """Return how many requests of this e-mail wait."""
        with self._lock:
            return len(self._answers.get(email, []))

    def answer(self, email: str, outcome: str | LoaderError) -> None:
        """Wait for a request of this e-mail, and answer it with a token or with an error."""
        poll(lambda: self.asked(email), SECONDS, f"a request of {email}")
        with self._lock:
            waiting = self._answers[email].pop(0)
        if isinstance(outcome, str):
            waiting.set_result(outcome)
        else:
            waiting.set_exception(outcome)


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def logins(api: Api) -> Logins:
    return Logins(api.request_token)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as made:
        yield made


def start(pool: ThreadPoolExecutor, logins: Logins, email: str) -> Future[None]:
    return pool.submit(logins.log_in, email, "a password", lambda: None)


def logged_in(pool: ThreadPoolExecutor, logins: Logins, api: Api, email: str) -> Login:
    done = start(pool, logins, email)
    api.answer(email, f"token of {email}")
    done.result(SECONDS)
    return logins.require()


@pytest.mark.parametrize("hanging", [1, 5, 12])
def test_a_login_waits_for_no_other_login(pool: ThreadPoolExecutor, logins: Logins, api: Api, hanging: int) -> None:
    held = [start(pool, logins, "slow") for _ in range(hanging)]
    poll(lambda: api.asked("slow") == hanging, SECONDS, "the slow logins")
    assert logged_in(pool, logins, api, "good").email == "good"
    for each in held:
        api.answer("slow", LoginRejected("Wrong."))
        assert isinstance(each.exception(SECONDS), LoginRejected)
    assert logins.require().email == "good"


def test_the_login_that_is_accepted_last_is_kept(pool: ThreadPoolExecutor, logins: Logins, api: Api) -> None:
    first = start(pool, logins, "first")
    poll(lambda: api.asked("first"), SECONDS, "the first login")
    logged_in(pool, logins, api, "second")
    api.answer("first", "late token")
    first.result(SECONDS)
    assert logins.require().email == "first"


def test_a_login_waits_for_no_renewal(pool: ThreadPoolExecutor, logins: Logins, api: Api) -> None:
    renewal = pool.submit(logins.renewed, logged_in(pool, logins, api, "old"))
    poll(lambda: api.asked("old"), SECONDS, "the renewal")
    new = logged_in(pool, logins, api, "new")
    api.answer("old", "renewed token")
    assert renewal.result(SECONDS) is new
    assert logins.require() is new


@pytest.mark.parametrize("failure", [LoginRejected("Wrong."), ApiUnreachable("Nobody listens.")])
def test_a_failed_renewal_does_not_end_a_new_login(
    pool: ThreadPoolExecutor, logins: Logins, api: Api, failure: LoaderError
) -> None:
    old = logged_in(pool, logins, api, "old")
    renewals = [pool.submit(logins.renewed, old) for _ in range(3)]
    poll(lambda: api.asked("old"), SECONDS, "the renewal")
    new = logged_in(pool, logins, api, "new")
    api.answer("old", failure)
    assert [renewal.result(SECONDS) for renewal in renewals] == [new] * 3
    assert api.asked("old") == 0


def test_renewals_of_one_login_share_a_request(pool: ThreadPoolExecutor, logins: Logins, api: Api) -> None:
    old = logged_in(pool, logins, api, "old")
    renewals = [pool.submit(logins.renewed, old) for _ in range(8)]
    api.answer("old", "renewed token")
    assert {renewal.result(SECONDS).token for renewal in renewals} == {"renewed token"}
    assert api.asked("old") == 0


def test_what_is_under_way_when_the_loader_is_locked_is_not_kept(
    pool: ThreadPoolExecutor, logins: Logins, api: Api
) -> None:
    old = logged_in(pool, logins, api, "old")
    login, renewal = start(pool, logins, "other"), pool.submit(logins.renewed, old)
    poll(lambda: api.asked("old") and api.asked("other"), SECONDS, "both requests")
    logins.forget()
    for email, job in (("old", renewal), ("other", login)):
        api.answer(email, "token")
        assert isinstance(job.exception(SECONDS), NotLoggedIn)
    assert logins.present is None


def test_a_login_that_the_api_has_ended_says_why_until_a_lock_or_a_new_login(
    pool: ThreadPoolExecutor, logins: Logins, api: Api
) -> None:
    rejected = LoginRejected("Wrong.", hint="Do this.")
    for end in (logins.forget, lambda: logged_in(pool, logins, api, "new")):
        old = logged_in(pool, logins, api, "old")
        assert logins.refusal is None
        renewal = pool.submit(logins.renewed, old)
        api.answer("old", rejected)
        assert renewal.exception(SECONDS) is rejected
        refusal = logins.refusal
        assert isinstance(refusal, LoginRejected)
        assert (str(refusal), refusal.hint) == ("Wrong.", "Do this.")
        end()
        assert logins.refusal is None


@pytest.mark.parametrize("failure", [LoginRejected("Wrong."), ApiUnreachable("Nobody listens.")])
def test_a_login_that_a_lock_has_ended_was_not_refused(
    pool: ThreadPoolExecutor, logins: Logins, api: Api, failure: LoaderError
) -> None:
    old = logged_in(pool, logins, api, "old")
    renewal = pool.submit(logins.renewed, old)
    poll(lambda: api.asked("old"), SECONDS, "the renewal")
    logins.forget()
    api.answer("old", failure)
    assert renewal.exception(SECONDS) is failure
    assert logins.refusal is None
