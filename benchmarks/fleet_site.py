"""A resource API with many devices, and two of its processes behind nginx with deploy/nginx-api.conf."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.api_process import ApiProcess, served
from benchmarks.fleet_clients import Plan
from benchmarks.peers import REPOSITORY, RUN_SECONDS, python, require_program
from benchmarks.servers import READY_SECONDS
from resource_api.accounts import Users
from resource_api.data_directory import DataDirectory
from resource_api.fragments import Fragments
from tests.support.http_probe import http_status
from tests.support.nginx_server import adapted
from tests.support.processes import ManagedProcess, clean_env, free_port

PASSWORD = "a password of a device"
KIB, MIB = 1 << 10, 1 << 20
HEAD_BYTES, SMALL_BYTES, BIG_BYTES, SMALL_PARTS = 20 * KIB, 66 * KIB, 8 * MIB, 8
FRAGMENT_PATH = "/binary-split/key-fragment"
HEAD, BIG = "images/1.4.head", f"models/net.{'0' * 31}1.big"


def password_of(name: str) -> tuple[str, str]:
    """Return name and password of the account that the device `name` has beside the one with a secret."""
    return f"password-{name}", PASSWORD


def small(number: int) -> str:
    """Return the name of a small part."""
    return f"models/net-{number}.small"


def make_fleet(root: Path, devices: int) -> tuple[DataDirectory, list[tuple[str, str]]]:
    """Make a data directory with the objects and `devices` devices; return it, and their names and secrets.

    Each has an account with a password, too, see `password_of`.
    """
    data = DataDirectory.create(root)
    Fragments(data).set(bytes(32))
    Users(data).set_password("person", PASSWORD)
    _, _, secret = Users(data).set_secret("device")
    stored: dict[str, Any] = json.loads(data.users_file.read_bytes())
    names = [f"device-{number}" for number in range(devices)]
    # All have the same hash, because other ones would take a minute to compute, and cost a login the same.
    accounts = dict.fromkeys(names, stored["device"]) | {f"password-{name}": stored["person"] for name in names}
    data.write_private(data.users_file, json.dumps(stored | accounts).encode())
    sizes = {HEAD: HEAD_BYTES, BIG: BIG_BYTES, **{small(number): SMALL_BYTES for number in range(SMALL_PARTS)}}
    for name, size in sizes.items():
        path = data.resources / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(size))
    return data, [(name, secret) for name in names]


def plan(data: DataDirectory, address: str, devices: list[tuple[str, str]], seconds: float) -> Plan:
    """Return what `devices` request at `address`."""
    paths = [f"/resources/{small(number)}" for number in range(SMALL_PARTS)]
    head, big = f"/resources/{HEAD}", f"/resources/{BIG}"
    return Plan(address, devices, seconds, FRAGMENT_PATH, head, paths, big, str(data.resources / BIG))


@contextmanager
def simulated(what: Plan) -> Iterator[list[dict[str, Any]]]:
    """Run the devices during the block, and wait for them at its end; the list then has their report."""
    reports: list[dict[str, Any]] = []
    command, pipe = python("benchmarks.fleet_clients"), subprocess.PIPE
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, text=True) as running:
        assert running.stdin is not None
        running.stdin.write(json.dumps(asdict(what)))
        running.stdin.close()
        running.stdin = None
        yield reports
        reports.append(json.loads(running.communicate(timeout=RUN_SECONDS)[0]))
    assert running.returncode == 0


@contextmanager
def balanced(directory: Path, data: DataDirectory) -> Iterator[tuple[str, list[ApiProcess]]]:
    """Run two servers on one data directory, and nginx in front; yield the address of nginx and the servers.

    nginx has the configuration of deploy/, without TLS, which would be the cost of the clients here, and with a higher
    rate of logins, because all devices have one address. Raises Missing.
    """
    require_program("nginx")
    directory.mkdir()
    port = free_port()
    with ExitStack() as running:
        apis = [running.enter_context(served(directory / name, data)) for name in ("one", "two")]
        changes = {
            "user www-data;": "user root;",
            "pid /run/nginx.pid;": f"pid {directory}/nginx.pid;",
            "/var/log/nginx/": f"{directory}/",
            "/run/azaion-api-": f"{directory}/",
            "unix:/run/azaion-resource-api/1.sock": apis[0].address,
            "unix:/run/azaion-resource-api/2.sock": apis[1].address,
            "listen 443 ssl": f"listen 127.0.0.1:{port}",
            "rate=1r/s": "rate=1000r/s",
            "api.example": "localhost",
        }
        lines = (REPOSITORY / "deploy" / "nginx-api.conf").read_text().splitlines(keepends=True)
        file = directory / "nginx.conf"
        file.write_text(adapted("".join(line for line in lines if "ssl_" not in line), changes))
        command = ["nginx", "-p", str(directory), "-c", str(file), "-e", str(directory / "start.log")]
        command += ["-g", "daemon off;"]
        process = running.enter_context(ManagedProcess("nginx", command, directory, env=clean_env(directory)))
        address = f"127.0.0.1:{port}"
        process.wait_until(lambda: http_status(f"http://{address}", "/health") == 200, READY_SECONDS, "nginx responds")
        yield address, apis
