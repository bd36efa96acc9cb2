"""What Linux knows about a process: memory, children, threads and open descriptors, read from /proc."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

KIB = 1024
RESET_PEAK_RSS = "5"  # proc_pid_clear_refs(5)


def peak_rss_bytes(pid: int) -> int:
    """The most memory that `pid` has held since its start or the last `reset_peak_rss` (VmHWM)."""
    return int(_status(pid)["VmHWM"].removesuffix(" kB")) * KIB


def rss_bytes(pid: int) -> int:
    """The memory that `pid` holds at this moment (VmRSS)."""
    return int(_status(pid)["VmRSS"].removesuffix(" kB")) * KIB


def pss_bytes(pid: int) -> int:
    """The memory that `pid` holds at this moment; of a page that others hold too, its share (Pss)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (pss,) = (line.removeprefix("Pss:") for line in lines if line.startswith("Pss:"))
    return int(pss.removesuffix(" kB")) * KIB


def reset_peak_rss(pid: int) -> None:
    """Lets `peak_rss_bytes` count from the present memory of `pid`."""
    Path(f"/proc/{pid}/clear_refs").write_text(RESET_PEAK_RSS)


def is_running(pid: int) -> bool:
    """False once `pid` has ended, also while its parent has not yet taken note of that."""
    try:
        return not _status(pid)["State"].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return False


def thread_count(pid: int) -> int:
    """The number of threads of `pid`, its main thread included."""
    return int(_status(pid)["Threads"])


def open_descriptors(pid: int) -> dict[int, str]:
    """The open descriptors of `pid`, each with what it names (a path, `socket:[...]`, `/tmp/x (deleted)`)."""
    named: dict[int, str] = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            named[int(entry.name)] = str(entry.readlink())
    return named


@dataclass(frozen=True)
class Footprint:
    """What a process holds: bytes of memory, numbers of descriptors and of threads."""

    rss: int
    descriptors: int
    threads: int


def footprint(pid: int) -> Footprint:
    """Of `pid` at this moment."""
    return Footprint(rss_bytes(pid), len(open_descriptors(pid)), thread_count(pid))


def children(pid: int) -> list[int]:
    """The pids whose parent is `pid`, in ascending order."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended since it was listed
                if _parent((entry / "stat").read_text()) == pid:
                    found.append(int(entry.name))
    return sorted(found)


def descendants(pid: int) -> list[int]:
    """The children of `pid`, their children and so on; parents come before their children."""
    found: list[int] = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _parent(stat: str) -> int:
    # The command name, in parentheses, may itself hold spaces and parentheses: fields count from the last one.
    return int(stat.rpartition(")")[2].split()[1])
