"""A loader whose way to the API breaks, and what each of its routes must then say in its response and in the log."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.breakable_api import BreakableApi
from tests.support.certificates import Authority
from tests.support.fake_engine import FakeEngine
from tests.support.handmade_image import HandmadeImage, seal
from tests.support.http_calls import CREDENTIALS, PASSWORD, call, load, login, post_json, upload
from tests.support.processes import poll
from tests.support.sites import ONE_SECOND, BareSite, bare_site

SECONDS = 20


@dataclass(frozen=True)
class Way:
    """A loader that is logged in and has an archive to unlock, and its API with TLS, for which `known` vouches."""

    site: BareSite
    api: BreakableApi
    known: Authority
    other: Authority


@contextmanager
def open_way(directory: Path) -> Iterator[Way]:
    """Yield a way whose files are below `directory`."""
    for name in ("known", "other"):
        (directory / name).mkdir()
    known, other = Authority(directory / "known"), Authority(directory / "other")
    env = {**ONE_SECOND, "API_PATIENCE": "1", "RESOURCE_API_CA_BUNDLE": str(known.path), "API_VERSION": "1.4"}
    with (
        BreakableApi(known.sign("right").server_context()) as api,
        FakeEngine(directory / "engine.sock", lambda request: request.respond(500, {"message": "no"})) as engine,
        bare_site(directory / "loader", api.url, DOCKER_HOST=engine.host, **env) as running,
    ):
        seal(running.models.parent / "images.enc", [HandmadeImage("app:1.4")])
        assert login(running.url).status == 200
        yield Way(running, api, known, other)


def unlock(url: str) -> dict[str, Any]:
    """Return what the status says of a failed unlock, in the words of problem details."""
    assert post_json(url, "/unlock", CREDENTIALS).status == 200

    def status() -> dict[str, Any]:
        return dict(call(url, "GET", "/unlock/status").json())

    poll(lambda: status()["state"] == "error", SECONDS, "the unlock fails")
    assert status()["code"] == "API_UNREACHABLE"
    return {"detail": status()["error"], "hint": status()["hint"]}


ROUTES: dict[str, Callable[[str], dict[str, Any]]] = {
    "login": lambda url: login(url).problem(503, "API_UNREACHABLE"),
    "load": lambda url: load(url, "m", "x").problem(503, "API_UNREACHABLE"),
    "upload": lambda url: upload(url, "m", "x", b"content").problem(503, "API_UNREACHABLE"),
    "unlock": unlock,
}


def assert_told(site: BareSite, route: str, sentence: str, hint: str, *, is_reached: bool = False) -> None:
    """Require sentence and hint in the response to `route`, and the sentence in exactly one warning of the log.

    An unlock that fails at its login has two, because the login has one as well.

    `/ready` must say the same, unless the API itself `is_reached`.
    """
    lines, audited = len(site.loader.log_lines()), len(site.audit_lines(route))
    document = ROUTES[route](site.url)
    assert re.fullmatch(sentence, document["detail"]), document
    assert re.search(hint, document["hint"]), document
    line = site.next_audit_line(route, audited)
    assert (line["level"], line["outcome"], line["code"]) == ("WARNING", "failed", "API_UNREACHABLE")
    assert line["reason"] == document["detail"]
    warnings = [line for line in site.loader.log_lines()[lines:] if line["level"] not in ("DEBUG", "INFO")]
    assert [warning["event"] for warning in warnings] == (
        ["login", "unlock"] if route == "unlock" and not is_reached else [route]
    )
    assert {warning["reason"] for warning in warnings} == {document["detail"]}
    ready = json.loads(call(site.url, "GET", "/ready").body)
    assert ("API_UNREACHABLE" not in ready.get("reasons", [])) is is_reached
    assert is_reached or (document["detail"] in ready["detail"] and document["hint"] in ready["hint"])
    assert PASSWORD not in site.loader.process.stderr()
