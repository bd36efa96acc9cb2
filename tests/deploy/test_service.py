"""deploy/azaion-loader.service: systemd accepts it, it confines the loader, and it matches the loader's settings."""

from __future__ import annotations

import re
import runpy
import shutil
import socket
import subprocess
from pathlib import Path

from loader.settings import BAD_SETTINGS_EXIT_CODE, variables
from tests.conftest import StartLoader
from tests.support.loader_server import REPOSITORY
from tests.support.missing import missing
from tests.support.nginx_server import CONFIGURATION

UNIT = REPOSITORY / "deploy" / "azaion-loader.service"
PROGRAM = "/srv/azaion-loader/.venv/bin/azaion-loader"
# In tenths, as --threshold counts: from 0 for a service that can do nothing to 100.
MOST_EXPOSED = 20
NOTIFY_SECONDS = 30.0


def settings() -> dict[str, list[str]]:
    """Return the values of each setting of the unit, in order."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^([A-Za-z]+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def setting(name: str) -> str:
    """Return the value of a setting that the unit has once."""
    (value,) = settings()[name]
    return value


def analyze(directory: Path, text: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze on the unit `text`, with its program replaced by one that exists."""
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze", "the program is not installed")
    assert PROGRAM in text
    unit = directory / UNIT.name
    unit.write_text(text.replace(PROGRAM, str(shutil.which("true"))))
    return subprocess.run(["systemd-analyze", *command, str(unit)], capture_output=True, text=True, check=False)


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    done = analyze(tmp_path, UNIT.read_text(), "verify")
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_accepts_the_lines_for_a_loader_that_logs_in_by_itself(tmp_path: Path) -> None:
    text = re.sub(r"^#(LoadCredentialEncrypted|Environment)=", r"\1=", UNIT.read_text(), flags=re.MULTILINE)
    assert [line for line in text.splitlines() if "account" in line and not line.startswith("#")] == [
        "LoadCredentialEncrypted=account:/etc/azaion-loader/account.cred",
        "Environment=CREDENTIALS_FILE=%d/account",
    ]
    assert "\nEnvironment=AUTO_UNLOCK=1\n" in text
    done = analyze(tmp_path, text, "verify")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_bad_value_does_not_restart_the_loader_for_ever() -> None:
    """tests/test_settings.py starts loaders with bad values, and requires this exit code."""
    assert setting("RestartPreventExitStatus") == str(BAD_SETTINGS_EXIT_CODE)
    assert (setting("Restart"), setting("StartLimitIntervalSec")) == ("on-failure", "0")


def test_systemd_reports_an_unknown_setting(tmp_path: Path) -> None:
    done = analyze(tmp_path, UNIT.read_text().replace("ProtectClock=", "ProtectClocks="), "verify")
    assert "ProtectClocks" in done.stderr


def exposed(directory: Path, text: str) -> int:
    """Return 0 if the exposure of the service is at most MOST_EXPOSED."""
    return analyze(directory, text, "security", "--offline=true", f"--threshold={MOST_EXPOSED}").returncode


def test_the_unit_confines_the_loader(tmp_path: Path) -> None:
    assert exposed(tmp_path, UNIT.read_text()) == 0
    assert exposed(tmp_path, UNIT.read_text().replace("CapabilityBoundingSet=\n", "")) != 0
    assert exposed(tmp_path, re.sub("SystemCallFilter=.*\n", "", UNIT.read_text())) != 0


def test_it_waits_longer_than_gunicorn_needs_to_stop() -> None:
    gunicorn = runpy.run_path(str(REPOSITORY / "gunicorn.conf.py"))
    assert int(setting("TimeoutStopSec")) > gunicorn["graceful_timeout"]


def test_the_loader_can_write_to_its_default_paths() -> None:
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


def test_the_loader_notifies_systemd_when_it_listens(start_loader: StartLoader, tmp_path: Path) -> None:
    assert setting("Type") == "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify.sock"))
        systemd.settimeout(NOTIFY_SECONDS)
        start_loader(NOTIFY_SOCKET=str(tmp_path / "notify.sock"))
        assert "READY=1" in systemd.recv(1 << 12).decode().splitlines()
