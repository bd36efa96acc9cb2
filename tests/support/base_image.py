"""Public images without a registry: programs of this machine, with what they are linked to."""

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
LOCK = REPOSITORY / "requirements.lock"
WHEELS = Path("/opt/wheels")
# What a company would put into a base image of its own, so that pip asks its mirror.
PIP_CONF = f"[global]\nno-index = true\nfind-links = {WHEELS}\n"
SHELL = ("sh", "install", "chmod", "rm")
UNUSED = {"test", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip", "site-packages", "dist-packages"}
# Parts of the C library that compiled wheels are linked to.
FOR_WHEELS = ("libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1")
NGINX_USER = "root:x:0:0::/:/bin/sh\nnginx:x:101:101::/:/bin/sh\n"
DOWNLOAD_SECONDS = 120


def download_wheels(directory: Path) -> Path:
    """Put the wheels of the lock into `directory`, and return it; `missing` if no package index answers."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", "--requirement", str(LOCK), "--dest", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
    if done.returncode:
        missing("package index", done.stderr.strip().splitlines()[-1])
    return directory


def python_image(wheels: Path) -> bytes:
    """A root file system with the running Python, as a tar. Its pip finds `wheels`, and nothing else."""
    executable = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]  # not the link in a venv
    standard_library = Path(sysconfig.get_path("stdlib"))
    root = _RootFileSystem()
    root.copy(executable, executable)
    root.link(Path("/usr/local/bin/python"), executable)
    root.programs(*SHELL)
    root.libraries_of(executable, *standard_library.joinpath("lib-dynload").glob("*.so"))
    root.copy(standard_library, standard_library)
    for path in _tools():
        root.copy(path, _site_packages(executable) / path.name)
    root.copy(wheels, WHEELS)
    root.write(Path("/etc/pip.conf"), PIP_CONF)
    root.directory(Path("/tmp"), 0o1777)  # of the image
    return root.tar()


def nginx_image() -> bytes:
    """A root file system with nginx and the user that its official image has, as a tar."""
    root = _RootFileSystem()
    root.programs("nginx")
    root.write(Path("/etc/passwd"), NGINX_USER)
    root.write(Path("/etc/group"), NGINX_USER.replace("::/:/bin/sh", ":"))
    root.link(Path("/var/log/nginx/access.log"), Path("/dev/stdout"))
    root.link(Path("/var/log/nginx/error.log"), Path("/dev/stderr"))
    return root.tar()


def _tools() -> list[Path]:
    """pip and setuptools, which the official image has. setuptools finds its commands through its metadata."""
    installed = Path(pip.__file__).parents[1]
    return [installed / "pip", installed / "setuptools", installed / "_distutils_hack", *installed.glob("setuptools-*")]


def _site_packages(executable: Path) -> Path:
    command = [str(executable), "-I", "-c", "import site; print(site.getsitepackages()[0])"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


class _RootFileSystem:
    """A tar in which everything belongs to root and is readable by all. Nothing stands in it twice."""

    def __init__(self) -> None:
        self._target = io.BytesIO()
        self._archive = tarfile.open(fileobj=self._target, mode="w")  # noqa: SIM115  # closed by tar()
        self._names = {Path("/")}

    def tar(self) -> bytes:
        """All of it; nothing can be added any more."""
        self._archive.close()
        return self._target.getvalue()

    def programs(self, *names: str) -> None:
        """Programs of this machine's PATH, into /bin; `missing` if it has one not."""
        found = [Path(shutil.which(name) or missing(name, "not in PATH")).resolve() for name in names]
        for name, path in zip(names, found, strict=True):
            self.copy(path, Path("/bin") / name)
        self.libraries_of(*found)

    def libraries_of(self, *files: Path) -> None:
        """The shared libraries that `files`, and wheels, are linked to, the loader of programs included."""
        done = subprocess.run(["ldd", *map(str, files)], capture_output=True, text=True, check=True)
        found = {Path(path) for path in re.findall(r"(/\S+) \(0x", done.stdout)}
        (c_library,) = (path for path in found if path.name == "libc.so.6")
        for path in self._new({*found, *(c_library.with_name(name) for name in FOR_WHEELS)}):
            self.copy(path.resolve(), path)

    def copy(self, source: Path, name: Path) -> None:
        """`source` with all below it, but for what is `UNUSED`, as `name`."""

        def adapted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
            inner = Path("/", entry.name).relative_to(name).parts
            if UNUSED.intersection(inner) or any(part.startswith("config-") for part in inner):
                return None
            return _of_root(entry, entry.mode | (0o555 if entry.isdir() else 0o444))

        self._parents(name)
        self._archive.add(source, arcname=str(name), filter=adapted)

    def write(self, name: Path, text: str) -> None:
        """A file."""
        self._parents(name)
        entry = _of_root(tarfile.TarInfo(str(name)), 0o644)
        entry.size = len(text)
        self._archive.addfile(entry, io.BytesIO(text.encode()))

    def link(self, name: Path, target: Path) -> None:
        """A symbolic link."""
        self._parents(name)
        entry = _of_root(tarfile.TarInfo(str(name)), 0o777)
        entry.type, entry.linkname = tarfile.SYMTYPE, str(target)
        self._archive.addfile(entry)

    def directory(self, name: Path, mode: int = 0o755) -> None:
        """An empty directory."""
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
