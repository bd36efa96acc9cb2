"""Twenty loaders whose downloads an outage of the resource API stops: when they return, and what they get."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from benchmarks.api_process import ApiProcess, served
from benchmarks.tables import Figure, Figures
from benchmarks.workload import MIB, Workload
from resource_api.accounts import Role, Users
from resource_api.data_directory import DataDirectory
from tests.support.http_calls import BOUNDARY, call, form, login, part
from tests.support.loader_server import LoaderServer
from tests.support.narrow_line import NarrowLine
from tests.support.processes import poll

LOADERS = 20
OUTAGE_SECONDS = 45.0
MODEL_BYTES = 16 * MIB
# Each download then takes 16 s.
BYTES_PER_SECOND = MIB
BEGUN_SECONDS = 120.0
# A client of a loader waits through the outage.
SILENCE_SECONDS = 300.0
DEVICE, FOLDER, NAME = "device", "models", "net"
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def outage(work: Workload) -> Figures:
    """Measure one outage in which the line to the API refuses all connections, whatever BENCH_ROUNDS says."""
    content = os.urandom(MODEL_BYTES)
    with ExitStack() as running:
        place = running.enter_context(work.place("outage"))
        data = DataDirectory.create(place / "data")
        _, _, secret = Users(data).set_secret(DEVICE, Role.PUBLISHER)
        api = running.enter_context(served(place / "api", data))
        line = running.enter_context(NarrowLine(f"http://{api.address}"))
        loaders = [running.enter_context(_loader(place, number, line.url)) for number in range(LOADERS)]
        for each in loaders:
            assert login(each.url, {"email": DEVICE, "password": secret}).status == 200
        body = form(part("folder", FOLDER.encode()), part("file", content, filename=NAME))
        assert call(loaders[0].url, "POST", f"/upload/{NAME}", body, FORM, SILENCE_SECONDS).status == 200
        assert call(loaders[0].url, "POST", "/cache/clear").status == 200
        line.rate, line.sent = BYTES_PER_SECOND, 0
        pool = running.enter_context(ThreadPoolExecutor(LOADERS))
        asked = json.dumps({"filename": NAME, "folder": FOLDER}).encode()
        loads = [pool.submit(call, each.url, "POST", f"/load/{NAME}", asked, JSON, SILENCE_SECONDS) for each in loaders]
        poll(lambda: line.sent > LOADERS * 2 * MIB, BEGUN_SECONDS, "the downloads have begun")
        line.is_up = False
        line.cut()
        time.sleep(OUTAGE_SECONDS)
        line.is_up, again = True, time.time()
        complete = sum(each.result().body == content for each in loads)
        returned = sorted(_returned(api, again))
    rows = [
        Figure("loaders that got everything", "", (complete,)),
        Figure("the first one returned after", "s", (returned[0],)),
        Figure("the last one", "s", (returned[-1],)),
        Figure("between them", "s", (returned[-1] - returned[0],)),
    ]
    return Figures(f"{LOADERS} loaders after an outage of {OUTAGE_SECONDS:.0f} s", tuple(rows), ())


def _loader(place: Path, number: int, url: str) -> LoaderServer:
    directory = place / str(number)
    directory.mkdir()
    paths = {"IMAGES_PATH": str(directory / "images.enc"), "MODEL_CACHE_DIR": str(directory / "models")}
    return LoaderServer(directory, {"RESOURCE_API_URL": url, "DEVICE_NAME": f"device-{number}", **paths})


def _returned(api: ApiProcess, again: float) -> Iterator[float]:
    """Yield for each device the seconds from `again` to its first request after it, as the audit lines tell."""
    first: dict[str, float] = {}
    for line in map(json.loads, api.log().splitlines()):
        began = datetime.fromisoformat(line["timestamp"]).timestamp() - line.get("seconds", 0.0)
        if line.get("device") and began > again:
            first[line["device"]] = min(began, first.get(line["device"], began))
    assert len(first) == LOADERS
    yield from (began - again for began in first.values())
