"""`python -m benchmarks.load_clients URL METHOD PATH BODY CLIENTS COUNT BUSY_SECONDS`: they come again and again.

Each of CLIENTS threads keeps its connection. They end after COUNT answers in all, or, if COUNT is 0, when standard
input ends. After a 503 a client waits for BUSY_SECONDS, or, if that is negative, for as long as Retry-After says.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from urllib.parse import urlsplit

ANSWER_SECONDS = 60.0
JSON = {"Content-Type": "application/json"}


def main(url: str, method: str, path: str, body: str, clients: int, count: int, busy: float) -> None:
    """Run them all; a wrong answer ends the program with an exception."""
    ended = threading.Event()
    if not count:
        threading.Thread(target=_set_at_end_of_input, args=[ended], daemon=True).start()
    left = threading.Semaphore(count)

    def wanted() -> bool:
        return left.acquire(blocking=False) if count else not ended.is_set()

    def come_again(answer: http.client.HTTPResponse) -> None:
        ended.wait(busy if busy >= 0 else float(answer.headers["Retry-After"]))

    with ThreadPoolExecutor(clients) as pool:
        running = [
            pool.submit(_client, urlsplit(url).netloc, method, path, body, wanted, come_again) for _ in range(clients)
        ]
    print(json.dumps(sum(client.result() for client in running)))


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
) -> int:
    """How many answers it got."""
    connection = http.client.HTTPConnection(address, timeout=ANSWER_SECONDS)
    got = 0
    while wanted():
        while True:
            connection.request(method, path, body or None, JSON)
            answer = connection.getresponse()
            size = len(answer.read())
            if answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                break
            come_again(answer)
        assert answer.status == HTTPStatus.OK
        assert size == int(answer.headers["Content-Length"])
        got += 1
    connection.close()
    return got


_url, _method, _path, _body, _clients, _count, _busy = sys.argv[1:]
main(_url, _method, _path, _body, int(_clients), int(_count), float(_busy))
