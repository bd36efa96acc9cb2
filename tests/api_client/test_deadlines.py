"""Answers that trickle: every call ends at its deadline, and so does what waits for it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from loader.api_client import deadlines
from loader.api_client.client import ApiClient
from loader.errors import ApiUnreachable, Interrupted, NotLoggedIn
from tests.support.breakable_api import Behaviour, BreakableApi, with_tls
from tests.support.certificates import Authority
from tests.support.faulty_api import CHECK, Fault, FaultyApi
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.processes import poll
from tests.support.trickling import BODY, TRICKLES, sends, trickles

TIMEOUTS = (0.3, 0.5)
SPARE_SECONDS = 0.1
TOTAL_SECONDS = sum(TIMEOUTS) + SPARE_SECONDS
HEAD_SECONDS = TIMEOUTS[1] + SPARE_SECONDS
# A call that ends later than this has not ended because of its deadline, however busy the machine is.
SOON_SECONDS = 5.0
LATE = r"at 127.0.0.1 port \d+ (could not be reached|was cut): its response was not complete in time\."
BIG = "m/x.big"
SIGNED = "/bucket/x"


@pytest.fixture(autouse=True)
def little_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "SPARE_SECONDS", SPARE_SECONDS)


@pytest.fixture
def api() -> Iterator[BreakableApi]:
    with BreakableApi() as running:
        yield running


@pytest.fixture
def client(api: BreakableApi) -> ApiClient:
    """A client that is logged in."""
    return logged_in(api.url)


def logged_in(url: str, ca_bundle: str | None = None, timeouts: tuple[float, float] = TIMEOUTS) -> ApiClient:
    made = ApiClient(url, ca_bundle=ca_bundle, timeouts=timeouts)
    made.login(EMAIL, PASSWORD)
    return made


CALLS: dict[str, Callable[[ApiClient], object]] = {
    "login": lambda client: client.login(EMAIL, PASSWORD),
    "key fragment": lambda client: client.key_fragment(CHECK),
    "small part": lambda client: client.small_object("m/x.small"),
    "head of a big part": lambda client: client.open_object(BIG),
    "head of an upload": lambda client: client.put_object("m/x.small", b"content"),
}


def assert_late(call: Callable[[], object], least: float = 0.0, told: str = LATE) -> None:
    started = time.monotonic()
    with pytest.raises(ApiUnreachable, match=told) as caught:
        call()
    assert least <= time.monotonic() - started < SOON_SECONDS
    assert caught.value.retryable
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("trickle", TRICKLES)
def test_a_key_fragment_that_trickles_ends_in_time(api: BreakableApi, client: ApiClient, trickle: str) -> None:
    api.behaviour = TRICKLES[trickle]
    if trickle == "interim responses at full speed":
        # Newer versions of Python count them, and take a hundred.
        assert_late(lambda: client.key_fragment(CHECK), told=f"{LATE}|its response is not HTTP")
    else:
        assert_late(lambda: client.key_fragment(CHECK), HEAD_SECONDS)
    api.behaviour = None
    assert client.key_fragment(CHECK).content == api.fragment


@pytest.mark.parametrize("name", CALLS)
def test_every_call_whose_head_trickles_ends_in_time(api: BreakableApi, client: ApiClient, name: str) -> None:
    api.behaviour = TRICKLES["interim responses"]
    assert_late(lambda: CALLS[name](client))


@pytest.mark.parametrize("name", ["login", "small part"])
def test_a_body_that_trickles_ends_in_time(api: BreakableApi, client: ApiClient, name: str) -> None:
    api.behaviour = TRICKLES["body"]
    assert_late(lambda: CALLS[name](client), TOTAL_SECONDS)


def test_within_tls_too(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = authority.sign("server").server_context()
    # A handshake needs its time on a busy machine.
    timeouts = (2.0, 0.5)
    with BreakableApi(context) as api:
        client = logged_in(api.url, str(authority.path), timeouts)
        for trickle in ("body", "interim responses"):
            api.behaviour = with_tls(context, TRICKLES[trickle])
            with pytest.raises(ApiUnreachable, match="not complete in time"):
                client.key_fragment(CHECK)


def test_a_handshake_of_tls_that_trickles_ends_in_time() -> None:
    with BreakableApi() as api:
        # The head of a record of TLS whose content never ends.
        api.behaviour = trickles(b"\x16\x03\x03\x3f\xff", b"\x02")
        started = time.monotonic()
        with pytest.raises(ApiUnreachable, match=f"localhost port {api.port}"):
            logged_in(api.url.replace("http://127.0.0.1", "https://localhost"))
        assert time.monotonic() - started < SOON_SECONDS


def test_a_chain_of_slow_redirects_has_one_deadline(client: ApiClient, api: BreakableApi) -> None:
    count = iter(range(100))

    def redirect(connection: socket.socket) -> None:
        head = f"HTTP/1.1 302 Found\r\nLocation: {SIGNED}{next(count)}\r\nContent-Length: 0\r\n\r\n".encode()
        sends([head[begin : begin + 8] for begin in range(0, len(head), 8)])(connection)

    api.behaviour = redirect
    assert_late(lambda: client.small_object("m/x.small"), TOTAL_SECONDS)
    assert 2 <= next(count) <= 5


def test_a_store_that_trickles_is_named(api: BreakableApi, client: ApiClient) -> None:
    with BreakableApi() as store:
        store.behaviour = TRICKLES["body"]
        location = f"{store.url}{SIGNED}?X-Signature=planted"
        api.answer("GET", "/resources/m/x.small", Fault(302, headers={"Location": location}))
        with pytest.raises(
            ApiUnreachable, match=rf"store at 127.0.0.1 port {store.port} .*not complete in time"
        ) as late:
            client.small_object("m/x.small")
    assert "planted" not in str(late.value)


def test_a_slow_link_gets_the_time_that_its_bytes_need(
    api: BreakableApi, client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same link is late when it is slower than the slowest that counts."""
    pieces = [BODY, *[b"\0" * 200] * 20]
    api.behaviour = sends(pieces, 1.5 * TOTAL_SECONDS / 20)
    monkeypatch.setattr(deadlines, "SLOWEST_RATE", 500.0)
    assert client.small_object("m/x.small") == bytes(4000)
    monkeypatch.setattr(deadlines, "SLOWEST_RATE", 1e6)
    assert_late(lambda: client.small_object("m/x.small"), TOTAL_SECONDS)


def test_a_big_body_has_no_deadline(api: BreakableApi, client: ApiClient) -> None:
    api.behaviour = sends([BODY, *[b"\0" * 200] * 20], 1.5 * TOTAL_SECONDS / 20)
    stream, buffer, count = client.open_object(BIG), memoryview(bytearray(4000)), 0
    started = time.monotonic()
    while piece := stream.readinto(buffer):
        count += piece
    assert (count, time.monotonic() - started > TOTAL_SECONDS) == (4000, True)
    stream.close()


def test_a_name_with_many_silent_addresses_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver is a fake, because no real one knows such a name."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as waiting:
        address = listener.getsockname()
        for _ in range(8):  # Linux drops what comes once the queue is full, as a firewall would
            full = waiting.enter_context(socket.socket())
            full.setblocking(False)
            full.connect_ex(address)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)] * 100
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        started = time.monotonic()
        with pytest.raises(ApiUnreachable, match=r"many\.example port 80 could not be reached: .*in time"):
            logged_in("http://many.example")
        assert time.monotonic() - started < SOON_SECONDS


def test_a_resolver_that_never_ends_does_not_keep_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver is a fake: a real one hangs if its server answers over TCP and then falls silent."""
    over = threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        over.wait(2 * SOON_SECONDS)
        raise socket.gaierror(socket.EAI_AGAIN, "over")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    started = time.monotonic()
    with pytest.raises(ApiUnreachable, match=r"slow\.example port 80 could not be reached: .*in time"):
        logged_in("http://slow.example")
    assert time.monotonic() - started < SOON_SECONDS
    over.set()


def test_an_upload_longer_than_a_deadline_arrives(api: FaultyApi, client: ApiClient) -> None:
    class Slow:
        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Iterator[bytes]:
            for piece in (b"a", b"b", b"c"):
                time.sleep(TOTAL_SECONDS / 2)
                yield piece

    client.put_object("m/x.big", Slow())
    assert api.objects["/resources/m/x.big"] == b"abc"


# The calls below would end by themselves after a minute.
PATIENT = (30.0, 30.0)


@pytest.fixture
def punctual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "PUNCTUAL_SECONDS", 0.2)


@dataclass
class Stuck:
    """A patient client that is logged in at an API that trickles from now on; `asked` is set by the first request."""

    api: BreakableApi
    client: ApiClient
    asked: threading.Event = field(default_factory=threading.Event)

    def submit(self, pool: ThreadPoolExecutor, call: Callable[[ApiClient], object]) -> Future[object]:
        """Start `call`, and wait until the API has got its request."""
        submitted = pool.submit(call, self.client)
        assert self.asked.wait(SOON_SECONDS)
        return submitted


@pytest.fixture
def stuck(api: BreakableApi) -> Stuck:
    made = Stuck(api, logged_in(api.url, timeouts=PATIENT))
    api.behaviour = noting(made.asked, TRICKLES["body"])
    return made


def noting(event: threading.Event, behaviour: Behaviour) -> Behaviour:
    def note(connection: socket.socket) -> None:
        event.set()
        behaviour(connection)

    return note


@pytest.mark.usefixtures("punctual")
@pytest.mark.parametrize("name", ["login", "key fragment", "small part"])
def test_forget_ends_a_call_that_hangs_and_the_next_login_works_at_once(stuck: Stuck, name: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        hanging = stuck.submit(pool, CALLS[name])
        started = time.monotonic()
        stuck.client.forget()
        assert time.monotonic() - started < SOON_SECONDS
        stuck.api.behaviour = None
        stuck.client.login(EMAIL, PASSWORD)
        assert stuck.client.key_fragment(CHECK).content == stuck.api.fragment
        with pytest.raises(NotLoggedIn):
            hanging.result(SOON_SECONDS)


@pytest.mark.usefixtures("punctual")
def test_a_renewal_that_hangs_holds_up_no_later_login(stuck: Stuck) -> None:
    healthy, renewing = stuck.api.finish_request, threading.Event()
    stuck.api.valid_token, stuck.api.behaviour = "a token that nobody has", None

    def trickle_after_this(request: Any, address: Any) -> None:
        healthy(request, address)
        stuck.api.behaviour = stuck.api.behaviour or noting(renewing, TRICKLES["body"])

    with pytest.MonkeyPatch.context() as patched, ThreadPoolExecutor(1) as pool:
        # The first request gets its 401, and the renewal that follows trickles.
        patched.setattr(stuck.api, "finish_request", trickle_after_this)
        hanging = pool.submit(stuck.client.key_fragment, CHECK)
        assert renewing.wait(SOON_SECONDS)
        stuck.client.forget()
        stuck.api.behaviour = None
        patched.undo()
        stuck.client.login(EMAIL, PASSWORD)
        stuck.api.valid_token = "another token that nobody has"
        assert stuck.client.key_fragment(CHECK).content == stuck.api.fragment
        with pytest.raises(NotLoggedIn):
            hanging.result(SOON_SECONDS)


@pytest.mark.usefixtures("punctual")
@pytest.mark.parametrize("name", ["login", "key fragment", "small part", "head of a big part"])
def test_the_end_of_the_process_ends_what_hangs(stuck: Stuck, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck.api.behaviour = noting(stuck.asked, TRICKLES["one header"])
    monkeypatch.setattr(deadlines, "_told_to_stop", False)
    with ThreadPoolExecutor(1) as pool:
        hanging = stuck.submit(pool, CALLS[name])
        deadlines.stop()
        with pytest.raises(Interrupted, match="told to stop"):
            hanging.result(SOON_SECONDS)


def test_a_call_that_is_punctual_ends_in_order(api: BreakableApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever locks the loader in time could otherwise guess passwords that are not counted."""
    client = ApiClient(api.url, ca_bundle=None, timeouts=PATIENT)
    monkeypatch.setattr(deadlines, "CHECK_SECONDS", 0.01)
    api.answer("POST", "/login", Fault(401, silent=True))
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(client.login, EMAIL, PASSWORD)
        poll(lambda: api.requests("POST", "/login"), SOON_SECONDS, "the login")
        client.forget()
        time.sleep(0.1)
        api.resume()
        with pytest.raises(Exception, match="rejected the e-mail"):
            hanging.result(SOON_SECONDS)
