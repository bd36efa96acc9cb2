"""Other readings of `deploy/nginx.conf`: the one for TLS, and the one of `nginx -t`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.nginx_server import configuration, require_nginx
from tests.support.processes import free_port

# The command that the file itself gives for TLS.
TO_TLS = "s/#tls //; /#plain$/d"


def tls_variant(text: str) -> str:
    """Return `text` after the command in its head that turns TLS on."""
    assert f"sed '{TO_TLS}'" in text
    return subprocess.run(["sed", TO_TLS], input=text, capture_output=True, text=True, check=True).stdout


def checked(directory: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run `nginx -t` on `text`, adapted as `nginx` does."""
    require_nginx()
    file = directory / "nginx.conf"
    file.write_text(configuration(text, directory, directory / "loader.sock", free_port()))
    return subprocess.run(["nginx", "-t", "-c", str(file)], capture_output=True, text=True, check=False)
