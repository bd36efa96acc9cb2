"""nginx in front of an engine's socket, as devices have it that let the loader do only what it must."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.http_probe import http_status
from tests.support.nginx_server import require_nginx
from tests.support.processes import ManagedProcess, clean_env

READY_SECONDS = 30.0
ONLY_GET = "limit_except GET { deny all; }"
CONFIGURATION = """
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
    server {{
        listen unix:{listen};
        client_max_body_size 0;
        {rules}
        location / {{
            {everywhere}
            proxy_pass http://unix:{upstream}:;
            proxy_http_version 1.1;
            proxy_request_buffering off;
        }}
    }}
}}
"""


@contextmanager
def socket_proxy(directory: Path, upstream: Path, everywhere: str = ONLY_GET, rules: str = "") -> Iterator[str]:
    """Start nginx for the engine at the socket `upstream`, and yield its address for DOCKER_HOST.

    `everywhere` are directives for all requests that no location of `rules` is for.
    """
    require_nginx()
    directory.mkdir()
    listen = directory / "proxy.sock"
    text = CONFIGURATION.format(
        directory=directory, listen=listen, upstream=upstream, everywhere=everywhere, rules=rules
    )
    file = directory / "nginx.conf"
    file.write_text(text)
    command = ["nginx", "-p", str(directory), "-c", str(file), "-e", str(directory / "start.log"), "-g", "daemon off;"]
    with ManagedProcess("nginx", command, directory, env=clean_env(directory)) as process:
        host = f"unix://{listen}"
        process.wait_until(lambda: http_status(host, "/_ping") is not None, READY_SECONDS, "nginx responds")
        yield host
