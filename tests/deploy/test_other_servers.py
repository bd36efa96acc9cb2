"""Servers beside gunicorn that docs/operations.md names: uWSGI with one process, mod_wsgi in daemon mode.

Both run the Python of the distribution, so the loader and its packages are copied to where it finds them.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.support.faulty_api import FaultyApi
from tests.support.http_calls import call, load, login, upload
from tests.support.http_probe import http_status
from tests.support.loader_server import REPOSITORY
from tests.support.missing import missing
from tests.support.processes import ManagedProcess, clean_env, free_port
from tests.support.sites import NO_ENGINE

CONTENT = bytes(range(256)) * 16_384
SECONDS = 30.0
SYSTEM_PYTHON = Path("/usr/bin/python3")
MODULES = Path("/usr/lib/apache2/modules")
APACHE = """
ServerRoot {directory}
PidFile {directory}/httpd.pid
Listen 127.0.0.1:{port}
ServerName localhost
User www-data
Group www-data
ErrorLog /dev/stderr
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
{daemon}
WSGISocketPrefix {directory}/wsgi
WSGIScriptAlias / {packages}/loader/server/wsgi.py
<Directory {packages}>
    Require all granted
</Directory>
"""
# `processes=1` would make mod_wsgi say that there may be several.
DAEMON = """
WSGIDaemonProcess loader threads=16 python-path={packages}
WSGIProcessGroup loader
WSGIApplicationGroup %{{GLOBAL}}
"""
EMBEDDED = """
WSGIPythonPath {packages}
WSGIApplicationGroup %{{GLOBAL}}
"""


def require(program: str, file: Path) -> None:
    """End the test by `missing` if `file` of `program` is not installed, or is for another version of Python."""
    if not file.exists():
        missing(program, f"{file} does not exist")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if SYSTEM_PYTHON.resolve().name != f"python{version}":
        missing(program, f"it runs {SYSTEM_PYTHON.resolve().name}, and the packages are for {version}")


@pytest.fixture(scope="module")
def packages() -> Iterator[Path]:
    """A directory with the loader and its packages, which every user may read."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        shutil.copytree(REPOSITORY / "loader", directory / "loader")
        for line in (REPOSITORY / "requirements.lock").read_text().splitlines():
            if "==" in line:
                copy_package(line.partition("==")[0], directory)
        yield directory


def copy_package(name: str, directory: Path) -> None:
    for file in distribution(name).files or []:
        if ".." not in file.parts:
            target = directory / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), target)


@contextmanager
def serving(name: str, command: list[str], directory: Path, port: int, api: str) -> Iterator[str]:
    """Run a server, whose loader has its files in `directory`, and yield its URL."""
    env = clean_env(
        directory,
        MODEL_CACHE_DIR=str(directory / "models"),
        IMAGES_PATH=str(directory / "images.enc"),
        RESOURCE_API_URL=api,
        DOCKER_HOST=NO_ENGINE,
    )
    url = f"http://127.0.0.1:{port}"
    with ManagedProcess(name, command, directory, env=env, cwd=directory) as process:
        process.wait_until(lambda: http_status(url, "/health") is not None, SECONDS, f"{name} answers")
        yield url


@contextmanager
def uwsgi(packages: Path, directory: Path, api: str, processes: int = 1) -> Iterator[str]:
    require("uWSGI", Path("/usr/lib/uwsgi/plugins/python3_plugin.so"))
    port = free_port()
    command = ["uwsgi", "--plugin", "python3", "--http-socket", f"127.0.0.1:{port}", "--master", "--die-on-term"]
    command += ["--processes", str(processes), "--threads", "16", "--need-app", "--pythonpath", str(packages)]
    with serving("uwsgi", [*command, "--module", "loader.server.wsgi"], directory, port, api) as url:
        yield url


@contextmanager
def apache(packages: Path, directory: Path, api: str, daemon: str = DAEMON) -> Iterator[str]:
    require("mod_wsgi", MODULES / "mod_wsgi.so")
    port = free_port()
    places = {"directory": directory, "packages": packages, "modules": MODULES, "port": port}
    configuration = directory / "httpd.conf"
    configuration.write_text(APACHE.format(daemon=daemon.format(**places), **places))
    command = ["apache2", "-f", str(configuration), "-D", "FOREGROUND"]
    with serving("apache2", command, directory, port, api) as url:
        yield url


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory for the files of a loader that runs as another user."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.mark.parametrize("server", [uwsgi, apache])
def test_it_does_the_main_job(packages: Path, directory: Path, server: object) -> None:
    assert callable(server)
    with FaultyApi() as api, server(packages, directory, api.url) as url:
        assert call(url, "GET", "/health").json() == {"status": "healthy"}
        load(url, "day", "x").problem(401, "NOT_LOGGED_IN")
        assert login(url).status == 200
        assert upload(url, "day", "x", CONTENT).json() == {"status": "ok"}
        assert load(url, "day", "x").body == CONTENT
        assert call(url, "GET", "/unlock/status").json()["state"] == "idle"
        assert call(url, "POST", "/lock").status == 200
        load(url, "day", "x").problem(401, "NOT_LOGGED_IN")


def test_several_processes_are_refused(packages: Path, directory: Path) -> None:
    with uwsgi(packages, directory, "http://127.0.0.1:9", processes=3) as url:
        for path in ("/health", "/status"):
            document = call(url, "GET", path).problem(500, "INTERNAL")
            assert "several processes" in document["detail"]


def test_mod_wsgi_in_the_processes_of_apache_is_refused(packages: Path, directory: Path) -> None:
    with apache(packages, directory, "http://127.0.0.1:9", EMBEDDED) as url:
        assert http_status(url, "/status") == 500
