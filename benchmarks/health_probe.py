"""`python -m benchmarks.health_probe URL`: request `/health` every 10 ms until standard input ends.

A process of its own, so that nothing but the server and the machine is in the times. Prints them as JSON, in seconds.
"""

from __future__ import annotations

import http.client
import json
import select
import sys
import time
from urllib.parse import urlsplit

PAUSE_SECONDS = 0.01
ANSWER_SECONDS = 60.0


def main(address: str) -> None:
    """Use a new connection each time, as the probe of a load balancer does."""
    taken = []
    while not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
        started = time.perf_counter()
        connection = http.client.HTTPConnection(address, timeout=ANSWER_SECONDS)
        connection.request("GET", "/health")
        answer = connection.getresponse()
        assert answer.status == http.HTTPStatus.OK
        answer.read()
        connection.close()
        taken.append(time.perf_counter() - started)
    print(json.dumps(taken))


main(urlsplit(sys.argv[1]).netloc)
