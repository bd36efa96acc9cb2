"""Builds substitutes for public base images from the programs of this machine, so that tests need no registry."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pip

from tests.support.loader_server import REPOSITORY
from tests.support.missing import missing

PYTHON, NGINX = "python:3.11-slim", "nginx:1.28"
STORE = "swift-of-the-tests:1"
STORE_PACKAGES, STORE_SERVER = Path("/opt/swift/packages"), Path("/opt/swift/server.py")
LOCK = REPOSITORY / "requirements.lock"
WHEELS = Path("/opt/wheels")
# A company puts such a file into its own base image, because pip must then use the company's mirror.
PIP_CONF = f"[global]\nno-index = true\nfind-links = {WHEELS}\n"
SHELL = ("sh", "install", "chmod", "rm")
UNUSED = {"test", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip", "site-packages", "dist-packages"}
# Compiled wheels link to these libraries, which belong to the C library.
FOR_WHEELS = ("libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1")
NGINX_USER = "root:x:0:0::/:/bin/sh\nnginx:x:101:101::/:/bin/sh\n"
DOWNLOAD_SECONDS = 120


def download_wheels(directory: Path) -> Path:
    """Download the wheels of the lock file into `directory` and return it.

    Calls `missing` if pip cannot download them, usually because no package index responds.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", "--requirement", str(LOCK), "--dest", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
    if done.returncode:
        missing("package index", done.stderr.strip().splitlines()[-1])
    return directory


def python_image(wheels: Path) -> bytes:
    """Return the tar of a root file system with the running Python, whose pip finds only `wheels`."""
    root = _with_python()
    root.programs(*SHELL)
    for path in _tools():
        root.copy(path, _site_packages(_executable()) / path.name)
    root.copy(wheels, WHEELS)
    root.write(Path("/etc/pip.conf"), PIP_CONF)
    root.directory(Path("/tmp"), 0o1777)  # inside the image
    return root.tar()


def store_image(packages: Path, server: Path) -> bytes:
    """Return the tar of a root file system with the running Python, the directory `packages` of Swift, and `server`."""
    root = _with_python()
    # The wheels bring other libraries with them.
    root.libraries_of(*packages.rglob("*.so"), without=packages)
    root.copy(packages, STORE_PACKAGES)
    root.copy(server, STORE_SERVER)
    return root.tar()


def nginx_image() -> bytes:
    """Return the tar of a root file system with nginx and the user of the official nginx image."""
    root = _RootFileSystem()
    root.programs("nginx")
    root.write(Path("/etc/passwd"), NGINX_USER)
    root.write(Path("/etc/group"), NGINX_USER.replace("::/:/bin/sh", ":"))
    root.link(Path("/var/log/nginx/access.log"), Path("/dev/stdout"))
    root.link(Path("/var/log/nginx/error.log"), Path("/dev/stderr"))
    return root.tar()


def _with_python() -> _RootFileSystem:
    executable, standard_library = _executable(), Path(sysconfig.get_path("stdlib"))
    root = _RootFileSystem()
    root.copy(executable, executable)
    root.link(Path("/usr/local/bin/python"), executable)
    root.libraries_of(executable, *standard_library.joinpath("lib-dynload").glob("*.so"))
    root.copy(standard_library, standard_library)
    return root


def _executable() -> Path:
    return Path(sys._base_executable).resolve()  # type: ignore[attr-defined]  # sys.executable is only a link in a venv


def _tools() -> list[Path]:
    """Return the paths of pip and setuptools, which the official image has.

    The metadata of setuptools is among them, because setuptools finds its commands through it.
    """
    installed = Path(pip.__file__).parents[1]
    return [installed / "pip", installed / "setuptools", installed / "_distutils_hack", *installed.glob("setuptools-*")]


def _site_packages(executable: Path) -> Path:
    command = [str(executable), "-I", "-c", "import site; print(site.getsitepackages()[0])"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


class _RootFileSystem:
    """Writes a tar in which root owns every entry, everybody may read it, and no name occurs twice."""

    def __init__(self) -> None:
        self._target = io.BytesIO()
        self._archive = tarfile.open(fileobj=self._target, mode="w")  # noqa: SIM115  # closed by tar()
        self._names = {Path("/")}

    def tar(self) -> bytes:
        """Finish the tar and return its bytes; nothing can be added afterwards."""
        self._archive.close()
        return self._target.getvalue()

    def programs(self, *names: str) -> None:
        """Add programs of this machine's PATH to /bin. Calls `missing` if one is not in PATH."""
        found = [Path(shutil.which(name) or missing(name, "not in PATH")).resolve() for name in names]
        for name, path in zip(names, found, strict=True):
            self.copy(path, Path("/bin") / name)
        self.libraries_of(*found)

    def libraries_of(self, *files: Path, without: Path | None = None) -> None:
        """Add the shared libraries that `files` and wheels are linked to, and the dynamic linker.

        Those below `without` are left out.
        """
        done = subprocess.run(["ldd", *map(str, files)], capture_output=True, text=True, check=True)
        found = {Path(path) for path in re.findall(r"(/\S+) \(0x", done.stdout)}
        (c_library,) = (path for path in found if path.name == "libc.so.6")
        found = {path for path in found if without is None or not path.is_relative_to(without)}
        for path in self._new({*found, *(c_library.with_name(name) for name in FOR_WHEELS)}):
            self.copy(path.resolve(), path)

    def copy(self, source: Path, name: Path) -> None:
        """Add `source` and everything below it under `name`, except directories that are `UNUSED`."""

        def adapted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
            inner = Path("/", entry.name).relative_to(name).parts
            if UNUSED.intersection(inner) or any(part.startswith("config-") for part in inner):
                return None
            return _of_root(entry, entry.mode | (0o555 if entry.isdir() else 0o444))

        self._parents(name)
        self._archive.add(source, arcname=str(name), filter=adapted)

    def write(self, name: Path, text: str) -> None:
        """Add a text file."""
        self._parents(name)
        entry = _of_root(tarfile.TarInfo(str(name)), 0o644)
        entry.size = len(text)
        self._archive.addfile(entry, io.BytesIO(text.encode()))

    def link(self, name: Path, target: Path) -> None:
        """Add a symbolic link."""
        self._parents(name)
        entry = _of_root(tarfile.TarInfo(str(name)), 0o777)
        entry.type, entry.linkname = tarfile.SYMTYPE, str(target)
        self._archive.addfile(entry)

    def directory(self, name: Path, mode: int = 0o755) -> None:
        """Add an empty directory."""
        entry = _of_root(tarfile.TarInfo(str(name)), mode)
        entry.type = tarfile.DIRTYPE
        self._archive.addfile(entry)

    def _parents(self, name: Path) -> None:
        for parent in self._new(reversed(name.parents)):
            self.directory(parent)

    def _new(self, paths: Iterable[Path]) -> list[Path]:
        new = [path for path in paths if path not in self._names]
        self._names.update(new)
        return new


def _of_root(entry: tarfile.TarInfo, mode: int) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = mode
    return entry
