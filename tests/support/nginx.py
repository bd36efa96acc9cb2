"""A real nginx in front of a loader's unix socket, as docs/operations.md says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.http_probe import http_status, socket_path
from tests.support.missing import missing
from tests.support.processes import ManagedProcess, clean_env, free_port

READY_SECONDS = 10.0
CONFIG = """
daemon off; user root; worker_processes 1; pid {directory}/nginx.pid; error_log stderr;
events {{ }}
http {{
  access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  server {{
    listen {address};
    location / {{
      proxy_pass http://unix:{socket}:; proxy_http_version 1.1; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
    }}
  }}
}}
"""


@contextmanager
def nginx_before(loader_url: str, directory: Path) -> Iterator[str]:
    """Where nginx listens; `directory` gets its files."""
    address = f"127.0.0.1:{free_port()}"
    config = directory / "nginx.conf"
    config.write_text(CONFIG.format(directory=directory, address=address, socket=socket_path(loader_url)))
    command = ["nginx", "-p", str(directory), "-c", str(config), "-e", "stderr"]
    try:
        process = ManagedProcess("nginx", command, directory, env=clean_env(directory, PATH="/usr/sbin:/usr/bin"))
    except FileNotFoundError:
        missing("nginx", "not installed")
    with process:
        process.wait_until(lambda: http_status(f"http://{address}", "/health") == 200, READY_SECONDS, "nginx answers")
        yield f"http://{address}"
