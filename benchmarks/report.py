"""The report of the results and the machine: as text, as a section of docs/performance.md, and as JSON."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.tables import Table
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
LEGEND = "ratio: the loader's time divided by this row's, median of the rounds' ratios; above 1 the loader is slower."


def describe(work: Workload) -> dict[str, str]:
    """Return the machine and the versions of all programs, by name.

    Call it before the first measurement, because it contains the load of the machine.
    """
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


def as_text(machine: Mapping[str, str], results: Sequence[Table]) -> str:
    """Return a description of the machine and one table for each result."""
    about = "\n".join(f"{name:<12}{value}" for name, value in machine.items())
    return "\n\n".join([about, LEGEND, *("\n".join([result.title, *result.lines()]) for result in results)])


def as_markdown(machine: Mapping[str, str], results: Sequence[Table]) -> str:
    """Return the same text as the section Results of docs/performance.md."""
    return f"## Results\n\n```\n{as_text(machine, results)}\n```"


def as_document(machine: Mapping[str, str], results: Sequence[Table]) -> dict[str, Any]:
    """Return all measured values as a document for JSON."""
    return {"machine": dict(machine), "results": [result.document() for result in results]}


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
    """Return the first line that the command prints, without the details in parentheses that some programs add."""
    if shutil.which(command[0]) is None:
        return "not installed"
    # Read standard error too, because nginx prints its version there.
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout.partition("\n")[0].partition(" (")[0].strip()
