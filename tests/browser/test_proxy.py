"""The page behind a real nginx that serves it below a path."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.conftest import Open
from tests.support.http_calls import EMAIL, PASSWORD
from tests.support.http_probe import http_status
from tests.support.missing import missing
from tests.support.processes import ManagedProcess, clean_env, free_port
from tests.support.sites import Site

READY_SECONDS = 20.0
CONFIGURATION = """
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location /device-7/ {{
            proxy_pass {loader}/;
            proxy_set_header Host $http_host;
        }}
    }}
}}
"""


@pytest.fixture
def proxied(tmp_path: Path, site: Site) -> Iterator[str]:
    """The URL below which nginx serves the loader."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if nginx is None:
        missing("nginx", "it is not installed")
    port = free_port()
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(directory=tmp_path, port=port, loader=site.url))
    command = [nginx, "-p", str(tmp_path), "-c", str(configuration)]
    with ManagedProcess("nginx", command, tmp_path, env=clean_env(tmp_path)) as process:
        url = f"http://127.0.0.1:{port}/device-7"
        process.wait_until(lambda: http_status(url, "/device-7/health") == 200, READY_SECONDS, "nginx responds")
        yield url


def test_the_page_works_below_a_path_of_a_proxy(proxied: str, site: Site, open_page: Open) -> None:
    page = open_page(proxied)
    page.wait_for_badge("idle")
    page.enter(PASSWORD, "Log in", email=EMAIL)
    page.wait_for_text("done", "Logged in.")
    page.wait_for_text("cache-note", "Somebody is logged in")
    assert [request.path for request in site.api.requests("POST")] == ["/login"]
    page.page.route("**/unlock/status", lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"))
    page.look_again()
    page.wait_for_badge("no answer")  # An error response of the proxy is no response of the loader.
