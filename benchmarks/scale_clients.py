"""`python -m benchmarks.scale_clients URL SECONDS FOLDER/NAME...`: a client for each name loads it again and again.

No client begins a load after SECONDS, but each ends the one that it is in. Prints how many bytes came within SECONDS,
to all of them.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from urllib.parse import urlsplit

ANSWER_SECONDS = 600.0
BUFFER_SIZE = 256 * 1024
JSON = {"Content-Type": "application/json"}


def main(url: str, seconds: float, resources: list[str]) -> None:
    """Run all clients at once. A wrong or cut response ends the program with an exception."""
    begin = threading.Barrier(len(resources))
    with ThreadPoolExecutor(len(resources)) as pool:
        running = [pool.submit(_client, urlsplit(url).netloc, seconds, resource, begin) for resource in resources]
    print(json.dumps(sum(client.result() for client in running)))


def _client(address: str, seconds: float, resource: str, begin: threading.Barrier) -> int:
    """Load at least once. Return how many bytes arrived before the deadline."""
    folder, _, name = resource.rpartition("/")
    body = json.dumps({"filename": name, "folder": folder})
    connection = http.client.HTTPConnection(address, timeout=ANSWER_SECONDS)
    begin.wait()
    deadline, in_time = time.monotonic() + seconds, 0
    while True:
        connection.request("POST", f"/load/{name}", body, JSON)
        in_time += _arrived(connection.getresponse(), deadline)
        if time.monotonic() >= deadline:
            connection.close()
            return in_time


def _arrived(answer: http.client.HTTPResponse, deadline: float) -> int:
    """Read the whole response. Return how many bytes of it arrived before `deadline`."""
    assert answer.status == HTTPStatus.OK, answer.status
    buffer, left, in_time = bytearray(BUFFER_SIZE), int(answer.headers["Content-Length"]), 0
    while count := answer.readinto(buffer):
        left -= count
        if time.monotonic() < deadline:
            in_time += count
    assert not left
    return in_time


_url, _seconds, *_resources = sys.argv[1:]
main(_url, float(_seconds), _resources)
