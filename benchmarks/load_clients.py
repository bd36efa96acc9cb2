"""`python -m benchmarks.load_clients URL METHOD PATH BODY CLIENTS COUNT BUSY_SECONDS`: repeat one request.

Each of CLIENTS threads keeps its connection. They end after COUNT answers in all, or, if COUNT is 0, when standard
input ends. After a 503 a client waits for BUSY_SECONDS, or, if that is negative, for as long as Retry-After says.
Prints as JSON: `seconds` from the first request to the last answer, `taken`, the seconds of every single request that
was answered as wanted, and `busy`, how many others there were.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

ANSWER_SECONDS = 60.0
JSON = {"Content-Type": "application/json"}


@dataclass
class Got:
    """The results of one client: the seconds of each good response, and the number of BUSY responses."""

    taken: list[float] = field(default_factory=list)
    busy: int = 0


def main(url: str, method: str, path: str, body: str, clients: int, count: int, busy: float) -> None:
    """Run all clients. A wrong response ends the program with an exception."""
    ended = threading.Event()
    if not count:
        threading.Thread(target=_set_at_end_of_input, args=[ended], daemon=True).start()
    left = threading.Semaphore(count)

    def wanted() -> bool:
        return left.acquire(blocking=False) if count else not ended.is_set()

    def come_again(answer: http.client.HTTPResponse) -> None:
        ended.wait(busy if busy >= 0 else float(answer.headers["Retry-After"]))

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        running = [
            pool.submit(_client, urlsplit(url).netloc, method, path, body, wanted, come_again) for _ in range(clients)
        ]
    seconds = time.perf_counter() - started
    got = [client.result() for client in running]
    taken = [one for client in got for one in client.taken]
    print(json.dumps({"seconds": seconds, "taken": taken, "busy": sum(client.busy for client in got)}))


def _set_at_end_of_input(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


def _client(
    address: str,
    method: str,
    path: str,
    body: str,
    wanted: Callable[[], bool],
    come_again: Callable[[http.client.HTTPResponse], None],
) -> Got:
    connection = http.client.HTTPConnection(address, timeout=ANSWER_SECONDS)
    got = Got()
    while wanted():
        while True:
            started = time.perf_counter()
            connection.request(method, path, body or None, JSON)
            answer = connection.getresponse()
            size = len(answer.read())
            if answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                break
            got.busy += 1
            come_again(answer)
        assert answer.status == HTTPStatus.OK
        assert size == int(answer.headers["Content-Length"])
        got.taken.append(time.perf_counter() - started)
    connection.close()
    return got


_url, _method, _path, _body, _clients, _count, _busy = sys.argv[1:]
main(_url, _method, _path, _body, int(_clients), int(_count), float(_busy))
