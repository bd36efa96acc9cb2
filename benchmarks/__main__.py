"""`python -m benchmarks [NAME]...` runs the named benchmarks, or all of them."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from benchmarks import report
from benchmarks.decrypt import decrypt, verify
from benchmarks.fetch import fetch
from benchmarks.fleet import fleet
from benchmarks.floors import floors
from benchmarks.health import health
from benchmarks.load import load, load_cold
from benchmarks.logins import logins
from benchmarks.measure import Missing
from benchmarks.memory import memory
from benchmarks.outage import outage
from benchmarks.pack import pack
from benchmarks.pulls import releases
from benchmarks.ranges import ranges
from benchmarks.scale import Scale, scale
from benchmarks.signature import signature
from benchmarks.small_loads import small_loads
from benchmarks.start import start
from benchmarks.store import store_load, store_upload
from benchmarks.tables import Result, Table
from benchmarks.unlock import unlock, unlock_gzip
from benchmarks.update import update
from benchmarks.update_unlock import unlock_update
from benchmarks.upload import upload
from benchmarks.workload import QUICK, BadWorkload, Workload, workload

BENCHMARKS: dict[str, Callable[[Workload], Table | Sequence[Table]]] = {
    "floors": floors,
    "decrypt": decrypt,
    "verify": verify,
    "signature": signature,
    "pack": pack,
    "update": update,
    "unlock": unlock,
    "unlock-gzip": unlock_gzip,
    "unlock-update": unlock_update,
    "load": load,
    "load-cold": load_cold,
    "small-loads": small_loads,
    "ranges": ranges,
    "health": health,
    "scale": scale,
    "logins": logins,
    "fleet": fleet,
    "outage": outage,
    "upload": upload,
    "store-upload": store_upload,
    "store-load": store_load,
    "fetch": fetch,
    "releases": releases,
    "start": start,
    "memory": memory,
}


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--quick", is_flag=True, help="Use 32 MiB and 1 round: checks that the benchmarks run (a few minutes).")
@click.option("--markdown", is_flag=True, help="Print the section Results of docs/performance.md.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write all times here.")
@click.option("--svg", "svg_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write a plot of scale.")
def main(names: tuple[str, ...], quick: bool, markdown: bool, json_file: Path | None, svg_file: Path | None) -> None:
    """Measure the loader and compare it with similar programs.

    Runs the benchmarks that the NAMEs select, in the given order, or all benchmarks if there is no NAME.

    BENCH_MIB (default 1024) sets the size of the data and BENCH_ROUNDS (default 5) the number of rounds; both also
    override --quick. TMPDIR selects the disk. OTHER_CHECKOUT is a directory with another version of this repository,
    whose loader small-loads measures as well. The times of single runs go to standard error, the tables to standard
    output.
    """
    if svg_file is not None and names and "scale" not in names:
        raise click.UsageError("--svg writes the plot of scale, but scale is not among the selected benchmarks.")
    # Turn SIGTERM into an exception, because the exception stops the servers and removes the directories.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with workload({**QUICK, **os.environ} if quick else os.environ) as work:
            described = report.describe(work)
            results = [result for name in names or BENCHMARKS for result in _measured(name, work)]
    except BadWorkload as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo((report.as_markdown if markdown else report.as_text)(described, results))
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_document(described, results), indent=1) + "\n")
    if svg_file is not None:
        for result in results:
            if isinstance(result, Scale):
                svg_file.write_text(result.svg())


def _measured(name: str, work: Workload) -> Sequence[Table]:
    try:
        measured = BENCHMARKS[name](work)
    except Missing as exc:
        return [Result(name, (), (str(exc),))]
    return measured if isinstance(measured, Sequence) else [measured]


main(prog_name="python -m benchmarks")
