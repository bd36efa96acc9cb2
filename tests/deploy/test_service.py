"""deploy/azaion-loader.service: systemd understands it, it locks the loader in, and it fits what it runs."""

from __future__ import annotations

import re
import runpy
import shutil
import socket
import subprocess
from pathlib import Path

from loader.settings import variables
from tests.conftest import StartLoader
from tests.support.loader_server import REPOSITORY
from tests.support.missing import missing
from tests.support.nginx_server import CONFIGURATION

UNIT = REPOSITORY / "deploy" / "azaion-loader.service"
PROGRAM = "/srv/azaion-loader/.venv/bin/gunicorn"
# In tenths, as --threshold counts: from 0 for a service that can do nothing to 100.
MOST_EXPOSED = 20
NOTIFY_SECONDS = 30.0


def settings() -> dict[str, list[str]]:
    """The values of every setting of the unit, in order."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^([A-Za-z]+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def setting(name: str) -> str:
    """The value of a setting that stands there once."""
    (value,) = settings()[name]
    return value


def analyze(directory: Path, text: str, *command: str) -> subprocess.CompletedProcess[str]:
    """What systemd-analyze says of `text`, whose program is replaced by one that is there."""
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze", "the program is not installed")
    assert PROGRAM in text
    unit = directory / UNIT.name
    unit.write_text(text.replace(PROGRAM, str(shutil.which("true"))))
    return subprocess.run(["systemd-analyze", *command, str(unit)], capture_output=True, text=True, check=False)


def test_systemd_understands_it(tmp_path: Path) -> None:
    done = analyze(tmp_path, UNIT.read_text(), "verify")
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_would_tell_what_it_does_not_understand(tmp_path: Path) -> None:
    done = analyze(tmp_path, UNIT.read_text().replace("ProtectClock=", "ProtectClocks="), "verify")
    assert "ProtectClocks" in done.stderr


def exposed(directory: Path, text: str) -> int:
    """0 if the service is exposed no more than it may be."""
    return analyze(directory, text, "security", "--offline=true", f"--threshold={MOST_EXPOSED}").returncode


def test_it_locks_the_loader_in(tmp_path: Path) -> None:
    assert exposed(tmp_path, UNIT.read_text()) == 0
    assert exposed(tmp_path, UNIT.read_text().replace("CapabilityBoundingSet=\n", "")) != 0
    assert exposed(tmp_path, re.sub("SystemCallFilter=.*\n", "", UNIT.read_text())) != 0


def test_it_waits_longer_than_gunicorn_needs_to_stop() -> None:
    gunicorn = runpy.run_path(str(REPOSITORY / "gunicorn.conf.py"))
    assert int(setting("TimeoutStopSec")) > gunicorn["graceful_timeout"]


def test_it_lets_the_loader_write_where_it_writes_by_default() -> None:
    writable = Path(setting("ReadWritePaths"))
    defaults = {
        variable.name: Path(variable.default) for variable in variables().values() if variable.name.endswith("_DIR")
    }
    defaults |= {
        variable.name: Path(variable.default) for variable in variables().values() if variable.name == "IMAGES_PATH"
    }
    assert set(defaults) == {"MODEL_CACHE_DIR", "IMAGES_PATH"}
    assert all(path.is_relative_to(writable) for path in defaults.values())


def test_nginx_finds_its_socket_and_may_use_it() -> None:
    (bind,) = [value for value in settings()["Environment"] if value.startswith("LOADER_BIND=")]
    path = bind.removeprefix("LOADER_BIND=unix:")
    assert Path(path).parent == Path("/run") / setting("RuntimeDirectory")
    assert f"server unix:{path};" in CONFIGURATION.read_text()
    assert re.search(rf"^user \S+ {setting('Group')};", CONFIGURATION.read_text(), re.MULTILINE)
    assert setting("RuntimeDirectoryMode") == "0750"


def test_the_loader_says_when_it_listens(start_loader: StartLoader, tmp_path: Path) -> None:
    assert setting("Type") == "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify.sock"))
        systemd.settimeout(NOTIFY_SECONDS)
        start_loader(NOTIFY_SOCKET=str(tmp_path / "notify.sock"))
        assert "READY=1" in systemd.recv(1 << 12).decode().splitlines()
