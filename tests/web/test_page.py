"""GET / and GET /static/{name}, as far as HTTP goes; tests/browser holds what a browser makes of them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from loader.web.page import STATIC, TYPES
from tests.support.http_calls import Reply, call, post_json
from tests.support.http_probe import http_status
from tests.support.loader_server import REPOSITORY
from tests.support.processes import ManagedProcess, clean_env, free_port
from tests.support.sites import BareSite

FILES = {path.name: path for path in STATIC.iterdir()}
SCRIPTS = sorted(name for name in FILES if name.endswith(".js"))
HTML = FILES["page.html"].read_text()
PATHS = {"/": "page.html"} | {f"/static/{name}": name for name in FILES if name != "page.html"}
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}
# A data URL, which causes no request.
SVG_NAMESPACE = "http://www.w3.org/2000/svg"
# Functions that turn text into markup or code, or store it.
FORBIDDEN = (
    *("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("),
    *("localStorage", "sessionStorage", "indexedDB", "cookie", "history.", "window.name"),
)
READY_SECONDS = 30.0


def policy_of(reply: Reply) -> dict[str, str]:
    directives = [directive.split(" ", 1) for directive in reply.headers["Content-Security-Policy"].split("; ")]
    return dict(directives)


@pytest.mark.parametrize(("path", "name"), PATHS.items())
def test_each_file_has_its_content_type_and_a_strict_policy(lonely: BareSite, path: str, name: str) -> None:
    reply = call(lonely.url, "GET", path)
    assert (reply.status, reply.body) == (200, FILES[name].read_bytes())
    assert reply.headers["Content-Type"] == TYPES[FILES[name].suffix]
    assert int(reply.headers["Content-Length"]) == len(reply.body)
    assert policy_of(reply) == POLICY
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Referrer-Policy"] == "same-origin"
    assert reply.headers["Cache-Control"] == "no-cache"
    assert "Set-Cookie" not in reply.headers

    head = call(lonely.url, "HEAD", path)
    assert (head.status, head.body) == (200, b"")
    assert (head.headers["ETag"], head.headers["Content-Length"]) == (reply.headers["ETag"], str(len(reply.body)))

    again = call(lonely.url, "GET", path, headers={"If-None-Match": reply.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    assert call(lonely.url, "GET", path, headers={"If-None-Match": '"another"'}).status == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/static/nothing.js", "/static/", "/static", "/static/page.html", "/page.html"),
        *("/static/../page.py", "/static/%2e%2e/page.py", "/static/..%2fpage.py", "/static//page.css"),
    ],
)
def test_other_names_are_not_found(lonely: BareSite, path: str) -> None:
    call(lonely.url, "GET", path).problem(404, "NOT_FOUND")


def test_the_page_accepts_only_get_and_head(lonely: BareSite) -> None:
    for path in ("/", "/static/page.js"):
        post_json(lonely.url, path, {}).problem(405, "METHOD_NOT_ALLOWED")


def test_another_host_name_is_refused(lonely: BareSite) -> None:
    for path in PATHS:
        call(lonely.url, "GET", path, headers={"Host": "example.com"}).problem(400, "UNTRUSTED_HOST")


def test_the_page_uses_every_static_file_and_no_missing_one() -> None:
    named = {reference.removeprefix("static/") for reference in re.findall(r'(?:src|href)="([^"]+)"', HTML)}
    imported = {name for script in SCRIPTS for name in re.findall(r'from "\./([^"]+)"', FILES[script].read_text())}
    assert named | imported | {"page.html"} == set(FILES)
    assert {path.suffix for path in FILES.values()} == set(TYPES)


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_an_address_elsewhere(name: str) -> None:
    addresses = re.findall(r"(?:[a-z]+:)?//[a-z0-9][^\s\"']*", re.sub(r"(?m)^\s*//.*$", "", FILES[name].read_text()))
    assert addresses == ([SVG_NAMESPACE] if name.endswith(".svg") else [])


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_writes_markup_or_stores_data(name: str) -> None:
    assert [word for word in FORBIDDEN if word in FILES[name].read_text()] == []


def test_the_markup_contains_neither_code_nor_style() -> None:
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?![^>]* src=)", HTML) == []
    assert re.findall(r"<form[^>]*>", HTML) == [
        '<form id="form" method="dialog">',
        '<form id="fetch-form" method="dialog" hidden>',
    ]
    assert re.findall(r"<(?:input|button)[^>]*\sname=", HTML) == []


def test_gunicorn_can_start_in_any_directory(tmp_path: Path) -> None:
    """Start gunicorn as a supervisor does, with another working directory than that of the code."""
    port = free_port()
    env = clean_env(
        tmp_path,
        LOADER_BIND=f"127.0.0.1:{port}",
        PYTHONPATH=str(REPOSITORY),
        IMAGES_PATH=str(tmp_path / "images.enc"),
        MODEL_CACHE_DIR=str(tmp_path),
    )
    command = [sys.executable, "-m", "gunicorn", "-c", str(REPOSITORY / "gunicorn.conf.py"), "wsgi:app"]
    with ManagedProcess("elsewhere", command, tmp_path, env=env, cwd=tmp_path) as process:
        url = f"http://127.0.0.1:{port}"
        process.wait_until(lambda: http_status(url, "/health") == 200, READY_SECONDS, "/health is 200")
        assert call(url, "GET", "/").body == FILES["page.html"].read_bytes()
        assert call(url, "GET", "/static/page.css").body == FILES["page.css"].read_bytes()
