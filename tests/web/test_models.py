"""GET and HEAD /models/{folder}/{filename}: whole, by range, only if changed, resumed by real clients."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
from contextlib import ExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from loader.crypto.model_parts import ResourceName
from loader.crypto.segments import segment_begin
from loader.errors import ResourceCorrupt
from loader.model_cache.cache import ModelCache
from loader.model_list import ModelList
from loader.model_trust import ModelTrust
from loader.resources import ResourceStore
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.flips import flipped
from tests.support.http_calls import Reply, call, load, post_json, upload
from tests.support.loads import OpenLoad
from tests.support.missing import missing
from tests.support.processes import poll
from tests.support.publishers import EVE, TRUSTED
from tests.support.sealed_objects import SealedObjects, seal
from tests.support.signed_models import NAME, signed_model
from tests.support.sites import LOG_SECONDS, BareSite, FaultySite, Site, real_site
from tests.support.sparse_model import DIGEST, cache_sparse_model
from tests.support.stored_resources import FOLDER
from tests.support.stores import read_whole

pytest_plugins = ("tests.support.store_fixtures",)

MIB = 1 << 20
PATTERN = bytes(range(251)) * 4096
SIZE = 5 * MIB + 77
CONTENT = (PATTERN * 6)[:SIZE]
PATH = "/models/ranges/day/m.onnx"
URL_SECONDS = 30


@pytest.fixture(scope="module")
def stored(site: Site) -> str:
    """Upload CONTENT, and return its ETag."""
    assert upload(site.url, "ranges/day", "m.onnx", CONTENT).status == 200
    return etag_of(site)


def get(site: BareSite, headers: dict[str, str] | None = None, path: str = PATH) -> Reply:
    return call(site.url, "GET", path, headers=headers)


def audit_of(site: BareSite, reply: Reply) -> dict[str, Any]:
    """Return the audit line of a request, which the loader may write a moment after its response."""

    def found() -> list[dict[str, Any]]:
        return [line for line in site.audit_lines("load") if line["request_id"] == reply.headers["X-Request-ID"]]

    poll(lambda: bool(found()), LOG_SECONDS, "its audit line")
    (line,) = found()
    return line


def etag_of(site: BareSite, path: str = PATH) -> str:
    return str(call(site.url, "HEAD", path).headers["ETag"])


def test_a_model_is_the_plaintext_with_its_validators(site: Site, stored: str) -> None:
    reply = get(site)
    assert (reply.status, reply.body) == (200, CONTENT)
    headers = reply.headers
    assert headers["ETag"] == stored
    assert stored.strip('"').isalnum()
    assert len(stored) == 66
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Length"] == str(SIZE)
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Cache-Control"] == "no-store, private"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Accel-Buffering"] == "no"
    assert abs((datetime.now(UTC) - parsedate_to_datetime(headers["Last-Modified"])).total_seconds()) < 600


def test_load_has_the_same_etag(site: Site, stored: str) -> None:
    assert load(site.url, "ranges/day", "m.onnx").headers["ETag"] == stored


@pytest.mark.parametrize("size", [0, 1000, 3 * MIB])
def test_the_etag_changes_with_each_upload_and_at_no_other_time(site: Site, size: int) -> None:
    path, found = f"/models/etag-{size}", []
    for _ in range(2):
        assert upload(site.url, "", path.rpartition("/")[2], bytes(size)).status == 200
        found += [etag_of(site, path), get(site, path=path).headers["ETag"]]
        assert found[-1] == found[-2]
    assert found[0] != found[2]


@pytest.mark.parametrize(
    ("header", "begin", "end"),
    [
        ("bytes=0-", 0, SIZE),
        ("bytes=0-0", 0, 1),
        ("bytes=1-70000", 1, 70001),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        (f"bytes={SIZE - 1}-{SIZE}", SIZE - 1, SIZE),
        ("bytes=3000000-3065535", 3_000_000, 3_065_536),
        ("bytes=-1", SIZE - 1, SIZE),
        (f"bytes=-{SIZE + 1}", 0, SIZE),
        ("Bytes=5-9", 5, 10),
        (f"bytes=2-{'9' * 18}", 2, SIZE),
    ],
)
@pytest.mark.usefixtures("stored")
def test_a_range_is_sent_alone(site: Site, header: str, begin: int, end: int) -> None:
    reply = get(site, {"Range": header})
    assert (reply.status, reply.body) == (206, CONTENT[begin:end])
    assert reply.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{SIZE}"
    assert reply.headers["Content-Length"] == str(end - begin)
    line = audit_of(site, reply)
    assert (line["outcome"], line["file"], line["bytes"]) == ("ok", "ranges/day/m.onnx", end - begin)


@pytest.mark.parametrize(
    "header", ["bytes=0-1,3-4", "bytes=5-4", "bytes=-", "bytes=a-b", "lines=0-1", "bytes", f"bytes={'9' * 5000}-", ""]
)
@pytest.mark.usefixtures("stored")
def test_other_ranges_are_ignored(site: Site, header: str) -> None:
    reply = get(site, {"Range": header})
    assert (reply.status, len(reply.body)) == (200, SIZE)


@pytest.mark.parametrize("header", [f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}", "bytes=-0"])
@pytest.mark.usefixtures("stored")
def test_a_range_behind_the_end_cannot_be_satisfied(site: Site, header: str) -> None:
    reply = get(site, {"Range": header})
    reply.problem(416, "RANGE_NOT_SATISFIABLE")
    assert reply.headers["Content-Range"] == f"bytes */{SIZE}"


def test_an_empty_model_has_no_ranges(site: Site) -> None:
    assert upload(site.url, "", "void", b"").status == 200
    for header in ("bytes=0-", "bytes=-5"):
        reply = get(site, {"Range": header}, "/models/void")
        assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", "0")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_a_known_edition_is_not_sent_again(site: Site, stored: str, method: str, form: str) -> None:
    reply = call(site.url, method, PATH, headers={"If-None-Match": form.format(stored), "Range": "bytes=0-5"})
    assert (reply.status, reply.body) == (304, b"")
    assert reply.headers["ETag"] == stored
    assert reply.headers["Cache-Control"] == "no-store, private"
    assert audit_of(site, reply)["outcome"] == "ok"


@pytest.mark.usefixtures("stored")
def test_another_edition_is_sent(site: Site) -> None:
    assert get(site, {"If-None-Match": '"other"'}).body == CONTENT


@pytest.mark.parametrize(
    ("form", "status"), [("{}", 206), ("W/{}", 200), ('"other"', 200), ("Fri, 01 Jan 2100 00:00:00 GMT", 200)]
)
def test_a_range_of_another_edition_becomes_the_whole(site: Site, stored: str, form: str, status: int) -> None:
    reply = get(site, {"Range": f"bytes={SIZE}-" if status == 200 else "bytes=10-", "If-Range": form.format(stored)})
    assert (reply.status, reply.body) == (status, CONTENT if status == 200 else CONTENT[10:])


@pytest.mark.parametrize("request_headers", [{}, {"Range": "bytes=0-5"}, {"Range": f"bytes={SIZE}-"}])
def test_head_tells_without_sending(site: Site, stored: str, request_headers: dict[str, str]) -> None:
    reply = call(site.url, "HEAD", PATH, headers=request_headers)
    assert (reply.status, reply.body) == (200, b"")
    assert (reply.headers["ETag"], reply.headers["Content-Length"]) == (stored, str(SIZE))
    assert audit_of(site, reply)["bytes"] == 0


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://example.com"}]
)
@pytest.mark.usefixtures("stored")
def test_pages_of_other_origins_get_nothing(site: Site, method: str, headers: dict[str, str]) -> None:
    for path in (PATH, "/models"):
        assert call(site.url, method, path, headers=headers).status == 403
    assert call(site.url, method, PATH, headers={"Sec-Fetch-Site": "same-origin"}).status == 200


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/models/%2e%2e/x", {"folder"}),
        ("/models/a//x", {"folder"}),
        ("/models/.x/-y", {"folder", "filename"}),
        (f"/models/{'a/' * 500}x", {"folder"}),
    ],
)
def test_names_are_checked(site: Site, path: str, fields: set[str]) -> None:
    assert set(get(site, path=path).problem(422, "VALIDATION_FAILED")["errors"]) == fields


def test_a_model_needs_a_login_and_must_be_there(site: Site, lonely: BareSite) -> None:
    get(lonely).problem(401, "NOT_LOGGED_IN")
    assert call(lonely.url, "HEAD", PATH).status == 401
    get(site, path="/models/day/nothing").problem(404, "RESOURCE_NOT_FOUND")


def put(faulty: FaultySite, content: bytes) -> SealedObjects:
    """Store a model at the faulty API, and empty the cache."""
    faulty.empty_cache()
    sealed = seal(FOLDER, "m", content)
    faulty.api.objects.update(sealed.as_objects())
    return sealed


def test_neither_head_nor_a_known_edition_starts_a_download(faulty: FaultySite) -> None:
    sealed = put(faulty, CONTENT)
    head = call(faulty.url, "HEAD", f"/models/{FOLDER}/m")
    assert head.headers["Content-Length"] == str(SIZE)
    assert get(faulty, {"If-None-Match": head.headers["ETag"]}, f"/models/{FOLDER}/m").status == 304
    assert faulty.api.requests("GET", sealed.big_path) == []
    assert list(faulty.models.iterdir()) == []


def test_a_cold_part_is_fetched_whole_and_its_range_comes_as_soon_as_it_is_there(faulty: FaultySite) -> None:
    sealed = put(faulty, CONTENT)
    faulty.api.answer("GET", sealed.big_path, Fault(body=sealed.big, stall_after=3 * MIB))
    reply = get(faulty, {"Range": "bytes=1500000-1565535"}, f"/models/{FOLDER}/m")
    assert (reply.status, reply.body) == (206, CONTENT[1_500_000:1_565_536])
    faulty.api.resume()
    assert get(faulty, path=f"/models/{FOLDER}/m").body == CONTENT
    assert "range" not in faulty.api.requests("GET", sealed.big_path)[0].headers


def test_a_damaged_segment_of_a_range_is_fetched_again(faulty: FaultySite) -> None:
    sealed = put(faulty, CONTENT)
    assert get(faulty, path=f"/models/{FOLDER}/m").body == CONTENT
    faulty.wait_until_idle()
    (part,) = faulty.models.glob("*.big")
    part.write_bytes(flipped(sealed.big, 3 * MIB))
    reply = get(faulty, {"Range": "bytes=0-65535"}, f"/models/{FOLDER}/m")
    assert reply.body == CONTENT[:65_536]
    assert len(faulty.api.requests("GET", sealed.big_path)) == 1
    reply = get(faulty, {"Range": f"bytes={3 * MIB}-{3 * MIB + 65_535}"}, f"/models/{FOLDER}/m")
    assert reply.body == CONTENT[3 * MIB : 3 * MIB + 65_536]
    assert len(faulty.api.requests("GET", sealed.big_path)) == 2


def test_a_range_takes_a_slot_and_gives_it_back(faulty: FaultySite) -> None:
    sealed = put(faulty, CONTENT)
    faulty.api.answer("GET", sealed.big_path, Fault(body=sealed.big, stall_after=2 * MIB))
    with ExitStack() as opened:
        while True:
            reply = call(faulty.url, "HEAD", f"/models/{FOLDER}/m")
            if reply.status == 503:
                break
            assert reply.status == 200
            opened.enter_context(OpenLoad(faulty.url, "m"))
        busy = get(faulty, {"Range": "bytes=0-1"}, f"/models/{FOLDER}/m")
        busy.problem(503, "BUSY")
        assert busy.headers["Retry-After"] in ("1", "2", "3")
        faulty.api.resume()


@pytest.fixture
def curl() -> str:
    """The program curl."""
    found = shutil.which("curl")
    if found is None:
        missing("curl", "not installed")
    return found


@pytest.mark.parametrize("have", [0, 1, 65_536, 2 * MIB + 5, SIZE - 1])
@pytest.mark.usefixtures("stored")
def test_curl_resumes(site: Site, tmp_path: Path, curl: str, have: int) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(CONTENT[:have])
    subprocess.run([curl, "-sS", "--fail", "-C", "-", "-o", str(path), site.url + PATH], check=True)
    assert path.read_bytes() == CONTENT


@pytest.mark.usefixtures("stored")
def test_curl_loads_only_what_has_changed(site: Site, tmp_path: Path, curl: str) -> None:
    path, etag = tmp_path / "m.onnx", tmp_path / "etag"
    command = [curl, "-sS", "--fail", "--etag-save", str(etag), "--etag-compare", str(etag), "-o", str(path)]
    written = "%{http_code} %{size_download}"
    for expected in (f"200 {SIZE}", "304 0"):
        done = subprocess.run([*command, "-w", written, site.url + PATH], check=True, capture_output=True, text=True)
        assert done.stdout == expected
        assert path.read_bytes() == CONTENT


def test_requests_resumes_a_cut_load(site: Site, stored: str) -> None:
    with requests.get(site.url + PATH, stream=True, timeout=URL_SECONDS) as first:
        arrived = first.raw.read(2 * MIB + 5)
    headers = {"Range": f"bytes={len(arrived)}-", "If-Range": stored}
    rest = requests.get(site.url + PATH, headers=headers, timeout=URL_SECONDS)
    assert rest.status_code == 206
    assert arrived + rest.content == CONTENT


def test_a_lock_ends_a_range_too(faulty: FaultySite) -> None:
    sealed = put(faulty, CONTENT)
    faulty.api.answer("GET", sealed.big_path, Fault(body=sealed.big, stall_after=MIB))
    try:
        with requests.get(f"{faulty.url}/models/{FOLDER}/m", stream=True, timeout=URL_SECONDS) as reply:
            assert call(faulty.url, "POST", "/lock").status == 200
            faulty.api.resume()
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                _ = reply.content
    finally:
        credentials = {"email": "operator@example.org", "password": "planted-password"}
        assert post_json(faulty.url, "/login", credentials).status == 200


def test_a_range_of_a_huge_model_reads_only_its_segments(site: Site) -> None:
    name, size = ResourceName("huge", "m"), 4 << 30
    model = cache_sparse_model(site.models, name, size, [2000])
    try:
        site.stored("huge").mkdir()
        site.stored(name.small).write_bytes(model.small)
        begin = segment_begin(2000) + 123_456
        read_before = bytes_read(site.loader.worker_pid)
        reply = get(site, {"Range": f"bytes={begin}-{begin + 65_535}"}, f"/models/{name.path}")
        assert (reply.status, reply.body) == (206, model.plaintext(begin, 65_536))
        # Its own segment, the small part, and some for the log.
        assert bytes_read(site.loader.worker_pid) - read_before < 2 * MIB
    finally:
        (site.models / f"{DIGEST}.big").unlink()


def bytes_read(pid: int) -> int:
    """Return how many bytes a process has read so far, from the page cache too."""
    return int(re.findall(r"^rchar: (\d+)$", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)[0])


def listed(site: BareSite) -> dict[str, dict[str, Any]]:
    """Return the entries of GET /models by the names of the models."""
    reply = call(site.url, "GET", "/models")
    assert reply.status == 200, reply.body
    entries = reply.json()["models"]
    names = [f"{entry['folder']}/{entry['filename']}".lstrip("/") for entry in entries]
    assert names == sorted(names)
    return dict(zip(names, entries, strict=True))


def test_the_models_of_the_api_are_listed(tmp_path: Path) -> None:
    with real_site(tmp_path) as site:
        assert listed(site) == {}
        for folder, name, size in (("", "tiny", 10), ("day", "m.onnx", SIZE), ("day/north", "m.onnx", 3 * MIB)):
            assert upload(site.url, folder, name, CONTENT[:size]).status == 200
        site.stored("day/damaged.small").write_bytes(b"AZSMALL2 and no more")
        site.stored("day/odd name.small").write_bytes(b"cannot be loaded")
        found = listed(site)
        assert set(found) == {"tiny", "day/m.onnx", "day/north/m.onnx", "day/damaged"}
        model = found["day/m.onnx"]
        assert (model["size"], model["cached"], model["code"]) == (SIZE, True, None)
        assert model["etag"] == etag_of(site, "/models/day/m.onnx")
        assert datetime.fromisoformat(model["created"]).timestamp() * 1000 == pytest.approx(model["serial"], abs=2000)
        assert (found["tiny"]["size"], found["tiny"]["cached"]) == (10, True)
        damaged = found["day/damaged"]
        assert (damaged.pop("folder"), damaged.pop("filename")) == ("day", "damaged")
        assert damaged.pop("code") == "RESOURCE_CORRUPT"
        assert damaged.pop("hint") == ResourceCorrupt.hint
        assert damaged.pop("cached") is False
        assert set(damaged.values()) == {None}
        names = {entry["name"] for entry in call(site.url, "GET", "/cache").json()["entries"]}
        assert names == {"day/m.onnx", "day/north/m.onnx"}
        assert call(site.url, "POST", "/cache/clear").json()["removed"] == 2
        assert {name: entry["cached"] for name, entry in listed(site).items() if entry["size"]} == {
            "tiny": True,
            "day/m.onnx": False,
            "day/north/m.onnx": False,
        }


def test_what_a_load_would_refuse_is_listed_with_its_code(logged_in: FaultyApi, tmp_path: Path) -> None:
    older, newest = signed_model(b"older", 1), signed_model(b"newest", 2)
    stranger = signed_model(b"by a stranger", 1, EVE, name=ResourceName("m", "y"))
    models = tmp_path / "models"
    cache, trust = ModelCache(models, 0, 1), ModelTrust(TRUSTED, models)
    store, models_of_api = ResourceStore(models, cache, 1, trust=trust), ModelList(cache, trust)
    logged_in.objects[f"/resources/{NAME.small}"] = newest.small.to_bytes()
    logged_in.objects[f"/resources/{stranger.name.small}"] = stranger.small.to_bytes()
    assert read_whole(store.load(NAME)) == b"newest"
    names = (NAME, stranger.name, ResourceName("m", "gone"))
    described = models_of_api.describe(names)
    assert [each.code for each in described] == [None, "UNTRUSTED_PUBLISHER"]
    assert newest.small.key not in pickle.dumps(described), "a list of many models must not hold their small parts"
    logged_in.objects[f"/resources/{NAME.small}"] = older.small.to_bytes()
    assert [each.code for each in models_of_api.describe([NAME])] == ["ROLLBACK"]


def test_a_list_needs_a_login_and_an_api(lonely: BareSite, faulty: FaultySite) -> None:
    call(lonely.url, "GET", "/models").problem(401, "NOT_LOGGED_IN")
    faulty.api.answer("GET", "/resources", Fault(500))
    call(faulty.url, "GET", "/models").problem(502, "API_ERROR")
    names = [{"name": f"m/{number}.small", "size": 1} for number in range(100)]
    faulty.api.answer("GET", "/resources", Fault(body=json.dumps({"resources": names}).encode()))
    faulty.api.answer("GET", "/resources/m/0.small", Fault(500))
    faulty.api.answer_all("GET", Fault(silent=True))
    call(faulty.url, "GET", "/models").problem(502, "API_ERROR")
    # A failure ends the list, so that it does not ask an API that fails for all the others.
    assert len(faulty.api.requests("GET")) < 30
