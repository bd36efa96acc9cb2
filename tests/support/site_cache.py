"""nginx as the cache of a site, with the configuration that docs/operations.md gives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.http_probe import http_status
from tests.support.loader_server import REPOSITORY
from tests.support.nginx_server import adapted, require_nginx
from tests.support.processes import ManagedProcess, clean_env, free_port

DOCUMENT = REPOSITORY / "docs" / "operations.md"
READY_SECONDS = 30.0
SURROUNDED = """
pid {directory}/nginx.pid;
user root;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{documented}
}}
"""


def documented() -> str:
    """Return the block of the document that begins with `proxy_cache_path`."""
    (block,) = re.findall(r"^```nginx\n(proxy_cache_path .*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return str(block)


@contextmanager
def site_cache(directory: Path, api_url: str) -> Iterator[str]:
    """Start the cache of a site for the API at `api_url`, and yield its URL."""
    require_nginx()
    directory.mkdir()
    port = free_port()
    changes = {
        "/var/cache/nginx/azaion": f"{directory}/cache",
        "listen 8080;": f"listen 127.0.0.1:{port};",
        "https://api.example": api_url,
        "proxy_ssl_verify on;": "",
        "proxy_ssl_server_name on;": "",
        "proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;": "",
        "Host api.example;": f"Host {urlsplit(api_url).netloc};",
    }
    file = directory / "nginx.conf"
    file.write_text(SURROUNDED.format(directory=directory, documented=adapted(documented(), changes)))
    command = ["nginx", "-p", str(directory), "-c", str(file), "-e", str(directory / "start.log"), "-g", "daemon off;"]
    url = f"http://127.0.0.1:{port}"
    with ManagedProcess("nginx", command, directory, env=clean_env(directory)) as process:
        process.wait_until(lambda: http_status(url, "/") is not None, READY_SECONDS, "nginx responds")
        yield url
