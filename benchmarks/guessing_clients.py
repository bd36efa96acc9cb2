"""`python -m benchmarks.guessing_clients ADDRESS EMAIL CLIENTS`: guess a password until standard input ends.

A process of its own, so that the clients do not share the GIL of the program that measures. Each of CLIENTS threads
sends one guess after the other; after a 503 it obeys Retry-After. It prints a line once they have begun.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

ANSWER_SECONDS = 60.0
JSON = {"Content-Type": "application/json"}


def main(address: str, email: str, clients: int) -> None:
    """Run all clients. A wrong response ends the program with an exception."""
    ended = threading.Event()
    with ThreadPoolExecutor(max(1, clients)) as pool:
        running = [pool.submit(_guess, address, email, ended) for _ in range(clients)]
        print("begun", flush=True)
        sys.stdin.read()
        ended.set()
    for each in running:
        each.result()


def _guess(address: str, email: str, ended: threading.Event) -> None:
    connection = http.client.HTTPConnection(address, timeout=ANSWER_SECONDS)
    number = 0
    while not ended.is_set():
        number += 1
        connection.request("POST", "/login", json.dumps({"email": email, "password": f"guess {number}"}), JSON)
        answer = connection.getresponse()
        answer.read()
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            ended.wait(float(answer.headers["Retry-After"]))
        else:
            assert answer.status == HTTPStatus.UNAUTHORIZED
    connection.close()


_address, _email, _clients = sys.argv[1:]
main(_address, _email, int(_clients))
