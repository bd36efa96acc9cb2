"""Reads from /proc what Linux knows about a process: memory, children, threads and open descriptors."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

KIB = 1024
RESET_PEAK_RSS = "5"  # proc_pid_clear_refs(5)


def peak_rss_bytes(pid: int) -> int:
    """Return the peak memory of `pid` since its start or the last `reset_peak_rss` (VmHWM)."""
    return int(_status(pid)["VmHWM"].removesuffix(" kB")) * KIB


def rss_bytes(pid: int) -> int:
    """Return the present memory of `pid` (VmRSS)."""
    return int(_status(pid)["VmRSS"].removesuffix(" kB")) * KIB


def pss_bytes(pid: int) -> int:
    """Return the present memory of `pid`, with only its share of the pages that several processes use (Pss)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (pss,) = (line.removeprefix("Pss:") for line in lines if line.startswith("Pss:"))
    return int(pss.removesuffix(" kB")) * KIB


def reset_peak_rss(pid: int) -> None:
    """Reset the peak of `pid` to its present memory."""
    Path(f"/proc/{pid}/clear_refs").write_text(RESET_PEAK_RSS)


def is_running(pid: int) -> bool:
    """Return whether `pid` runs; False for a zombie, which has ended but which its parent has not reaped yet."""
    try:
        return not _status(pid)["State"].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return False


def thread_count(pid: int) -> int:
    """Return the number of threads of `pid`, including the main thread."""
    return int(_status(pid)["Threads"])


def open_descriptors(pid: int) -> dict[int, str]:
    """Return the open descriptors of `pid`, each with its target (a path, `socket:[...]`, `/tmp/x (deleted)`)."""
    named: dict[int, str] = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since the listing
            named[int(entry.name)] = str(entry.readlink())
    return named


@dataclass(frozen=True)
class Footprint:
    """The resources of a process: bytes of memory, and the numbers of its descriptors and threads."""

    rss: int
    descriptors: int
    threads: int


def footprint(pid: int) -> Footprint:
    """Return the present footprint of `pid`."""
    return Footprint(rss_bytes(pid), len(open_descriptors(pid)), thread_count(pid))


def children(pid: int) -> list[int]:
    """Return the pids of the processes whose parent is `pid`, in ascending order."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended since the listing
                if _parent((entry / "stat").read_text()) == pid:
                    found.append(int(entry.name))
    return sorted(found)


def descendants(pid: int) -> list[int]:
    """Return the children of `pid`, their children and so on; parents come before their children."""
    found: list[int] = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _parent(stat: str) -> int:
    # Count the fields from the last parenthesis, because the command name may contain spaces and parentheses itself.
    return int(stat.rpartition(")")[2].split()[1])
