"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from benchmarks.workload import Workload

PROGRAMS = {
    "openssl": ["openssl", "version"],
    "age": ["age", "--version"],
    "nginx": ["nginx", "-v"],
    "dockerd": ["dockerd", "--version"],
    "docker": ["docker", "--version"],
    "curl": ["curl", "--version"],
}
PACKAGES = ("pycryptodome", "tink", "gunicorn", "flask", "werkzeug", "multipart", "requests", "docker")
REPOSITORY = Path(__file__).parents[1]


def describe(work: Workload) -> dict[str, str]:
    """The machine and the versions in play, by name. To be asked before the first measurement: it tells the load."""
    packages = ", ".join(f"{name} {_package_version(name)}" for name in PACKAGES)
    return {
        "commit": _first_line(["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]),
        "cpu": f"{_cpu_model()}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "disk": _first_line(["findmnt", "--noheadings", "--output=FSTYPE", f"--target={work.directory}"]),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "data": f"{work.mib} MiB that do not compress; {work.rounds} rounds, after one that is not counted",
        "python": f"{platform.python_version()}, {packages}",
        **{name: _first_line(command) for name, command in PROGRAMS.items()},
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or "unknown"


def _package_version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _first_line(command: list[str]) -> str:
    """Its begin, up to the details in parentheses that some programs add."""
    if shutil.which(command[0]) is None:
        return "not installed"
    # nginx tells its version on standard error.
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout.partition("\n")[0].partition(" (")[0].strip()
