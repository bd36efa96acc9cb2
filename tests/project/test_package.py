"""The package: what the wheel contains, and that it works where it is installed, from any directory."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from email.parser import BytesParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from loader.version import VERSION
from tests.support.http_calls import call
from tests.support.http_probe import http_status
from tests.support.loader_server import REPOSITORY
from tests.support.processes import ManagedProcess, clean_env, free_port

SECONDS = 60.0
NOT_COPIED = (".git", ".venv", "__pycache__", "build", "dist", "*.egg-info", ".*_cache", ".hypothesis")
DIST_INFO = f"azaion_loader-{VERSION}.dist-info"
DATA = f"azaion_loader-{VERSION}.data/data/share/azaion-loader/deploy"
DEPLOY = (
    *("Dockerfile-api", "alerts.yaml", "azaion-loader.service", "azaion-resource-api.service"),
    *("azaion-services.path", "azaion-services.service"),
    *("compose-api-store.yaml", "compose-api.yaml", "compose.services.yaml", "compose.yaml"),
    *("healthcheck.py", "nginx-api.conf", "nginx.conf"),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the repository without a download."""
    directory = tmp_path_factory.mktemp("build")
    shutil.copytree(REPOSITORY, directory / "source", ignore=shutil.ignore_patterns(*NOT_COPIED))
    options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(directory), str(directory / "source")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = directory.glob("*.whl")
    return built


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the package. `home` is an empty directory."""

    root: Path
    home: Path

    def command(self, *arguments: str) -> list[str]:
        return [str(self.root / "bin" / arguments[0]), *arguments[1:]]

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=cwd or self.home,
            env=clean_env(self.home, LOADER_BIND=f"127.0.0.1:{free_port()}"),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel. A .pth file leads to the run-time packages of the tests."""
    root = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], timeout=SECONDS, check=True)
    python = str(root / "bin" / "python")
    options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    command = [sys.executable, "-m", "pip", "--python", python, "install", *options, str(wheel)]
    subprocess.run(command, timeout=SECONDS, check=True)
    site_packages = next(root.glob("lib/python*/site-packages"))
    (site_packages / "packages_of_the_tests.pth").write_text(sysconfig.get_path("purelib"))
    return root


@pytest.fixture
def installed(environment: Path, tmp_path: Path) -> Installed:
    """The installed package, and an empty directory to run it from."""
    (tmp_path / "home").mkdir()
    return Installed(environment, tmp_path / "home")


def test_the_wheel_contains_the_packages_and_the_files_of_deploy_and_nothing_else(wheel: Path) -> None:
    packages = [REPOSITORY / "loader", REPOSITORY / "resource_api"]
    files = [path for package in packages for path in package.rglob("*.py")]
    files += [*(REPOSITORY / "loader/web/static").iterdir(), REPOSITORY / "loader/web/openapi.json"]
    expected = {str(path.relative_to(REPOSITORY)) for path in files}
    expected |= {f"{DATA}/{name}" for name in DEPLOY}
    metadata = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE")
    expected |= {f"{DIST_INFO}/{name}" for name in metadata}
    assert set(zipfile.ZipFile(wheel).namelist()) == expected


def test_the_metadata_names_the_run_time_packages(wheel: Path) -> None:
    metadata = BytesParser().parsebytes(zipfile.ZipFile(wheel).read(f"{DIST_INFO}/METADATA"))
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    wanted = {Requirement(line) for line in lines if line and not line.startswith("#")}
    assert {Requirement(value) for value in metadata.get_all("Requires-Dist", [])} == wanted
    assert (metadata["Name"], metadata["Version"]) == ("azaion-loader", VERSION)


def test_only_the_packages_are_at_the_top_level(environment: Path) -> None:
    (site_packages,) = environment.glob("lib/python*/site-packages")
    assert {path.name for path in site_packages.iterdir()} == {
        *("loader", "resource_api", DIST_INFO, "packages_of_the_tests.pth")
    }
    deploy = environment / "share/azaion-loader/deploy"
    assert {path.name for path in deploy.iterdir() if path.is_file()} == set(DEPLOY)


def test_the_commands_run_from_an_empty_directory(installed: Installed) -> None:
    assert installed.run("azaion-loader", "--version").stdout == f"azaion-loader, version {VERSION}\n"
    for command in ("azaion-loader", "azaion-resource-api"):
        done = installed.run(command, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"Usage: {command} ")
    assert list(installed.home.iterdir()) == []


@pytest.fixture
def plain_directory(tmp_path: Path) -> Path:
    """A directory with a package `loader` that must not be imported."""
    (tmp_path / "plain" / "loader").mkdir(parents=True)
    (tmp_path / "plain" / "loader" / "__init__.py").write_text("raise AssertionError")
    return tmp_path / "plain"


def test_a_command_imports_nothing_of_the_current_directory(installed: Installed, plain_directory: Path) -> None:
    done = installed.run("azaion-loader", "cache", "--help", cwd=plain_directory)
    assert (done.returncode, done.stderr) == (0, "")


def settings(directory: Path) -> Mapping[str, str]:
    return {"MODEL_CACHE_DIR": str(directory / "models"), "IMAGES_PATH": str(directory / "images.enc")}


@pytest.mark.parametrize("current", ["home", "plain"])
def test_the_loader_serves_from_any_directory(
    installed: Installed, plain_directory: Path, tmp_path: Path, current: str
) -> None:
    (tmp_path / "output").mkdir()
    bind = f"127.0.0.1:{free_port()}"
    url = f"http://{bind}"
    cwd = {"home": installed.home, "plain": plain_directory}[current]
    environment = clean_env(tmp_path / "output", LOADER_BIND=bind, **settings(tmp_path / "output"))
    command = installed.command("azaion-loader", "serve", "--log-level", "info")
    with ManagedProcess("serve", command, tmp_path / "output", env=environment, cwd=cwd) as process:
        process.wait_until(lambda: http_status(url, "/health") == 200, SECONDS, "/health is 200")
        assert b"<!doctype html>" in call(url, "GET", "/").body.lower()
        assert call(url, "GET", "/openapi.json").json()["info"]["version"] == VERSION
        assert call(url, "GET", "/status").json()["version"] == VERSION
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [("--workers 2", "exactly one worker"), ("--worker-class sync --threads 1", "must be loader.server.worker.Worker")],
)
def test_serve_refuses_what_the_settings_of_gunicorn_refuse(
    installed: Installed, arguments: str, sentence: str
) -> None:
    done = installed.run("azaion-loader", "serve", *arguments.split())
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
