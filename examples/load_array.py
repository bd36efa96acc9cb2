"""Loads a model into a numpy array, without a file and without a second copy; continues a cut load.

LOADER_URL=http://127.0.0.1:8080 python load_array.py day/weights.f32
"""

import os
import sys
import time

import numpy
import requests
import urllib3

URL = os.environ.get("LOADER_URL", "http://127.0.0.1:8080")
PIECE = 1 << 16


def load(model: str) -> numpy.ndarray:
    etag, array, done = "", numpy.empty(0, numpy.uint8), 0
    while not etag or done < array.nbytes:
        headers = {"If-Range": etag, "Range": f"bytes={done}-"} if done else {}
        try:
            requests.get(f"{URL}/ready", timeout=600).raise_for_status()
            with requests.get(f"{URL}/models/{model}", headers=headers, stream=True, timeout=600) as reply:
                reply.raise_for_status()
                if reply.status_code == requests.codes.ok:  # the first response, or another edition
                    etag, done = reply.headers["ETag"], 0
                    array = numpy.empty(int(reply.headers["Content-Length"]), numpy.uint8)
                while done < array.nbytes:
                    done += reply.raw.readinto(memoryview(array)[done : done + PIECE])
        except requests.HTTPError as problem:
            # A loader that is not ready responds with 503, whatever the reason is.
            if problem.response.status_code != requests.codes.unavailable:
                raise
            time.sleep(int(problem.response.headers.get("Retry-After", 2)))
        except (requests.RequestException, urllib3.exceptions.HTTPError):  # it does not run, or has cut the load
            time.sleep(2)
    return array


weights = load(sys.argv[1]).view(numpy.float32)
print(f"{weights.size} weights, mean {weights.mean():.6f}")
