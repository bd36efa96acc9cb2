"""Other readings of `deploy/nginx.conf`: the one for TLS, and the one of `nginx -t`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.nginx_server import CONFIGURATION, configuration, require_nginx
from tests.support.processes import free_port

# The command that the file itself gives for TLS.
TO_TLS = "s/#tls //; /#plain$/d"
TO_SERVICES = "s/#services //"
TO_STORE = "s/#store //"
API_CONFIGURATION = CONFIGURATION.with_name("nginx-api.conf")


def tls_variant(text: str) -> str:
    """Return `text` after the command in its head that turns TLS on."""
    assert f"sed '{TO_TLS}'" in text
    return subprocess.run(["sed", TO_TLS], input=text, capture_output=True, text=True, check=True).stdout


def services_variant() -> str:
    """Return the configuration after the command in compose.services.yaml, which turns on the block for services."""
    return _turned_on(CONFIGURATION, TO_SERVICES, "compose.services.yaml")


def store_variant() -> str:
    """Return nginx-api.conf after the command in compose-api-store.yaml, which turns on the block for the store."""
    return _turned_on(API_CONFIGURATION, TO_STORE, "compose-api-store.yaml")


def _turned_on(configuration: Path, command: str, described_in: str) -> str:
    assert f"sed -i '{command}' {configuration.name}" in configuration.with_name(described_in).read_text()
    return subprocess.run(["sed", command, str(configuration)], capture_output=True, text=True, check=True).stdout


def checked(directory: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run `nginx -t` on `text`, adapted as `nginx` does."""
    require_nginx()
    file = directory / "nginx.conf"
    file.write_text(configuration(text, directory, directory / "loader.sock", free_port()))
    return subprocess.run(["nginx", "-t", "-c", str(file)], capture_output=True, text=True, check=False)
