"""schemathesis: requests made from the description of the interface, and every answer held against it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.loader_server import REPOSITORY
from tests.support.processes import clean_env

RUN_SECONDS = 300


@dataclass
class ContractRun:
    """What came of a run.

    `statuses` counts the answers by operation, without those to other methods; `cases` counts all. `failed_checks` are
    names of checks by operation. `output` is what schemathesis printed, for people.
    """

    passed: bool
    output: str
    cases: int = 0
    statuses: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    failed_checks: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def summary(self) -> str:
        """Operations, cases and failures in one line."""
        failures = sum(len(names) for names in self.failed_checks.values())
        return f"{len(self.statuses)} operations, {self.cases} cases, {failures} failures"


def run_contract(
    document: Path, url: str, directory: Path, *, examples: int, faults: Sequence[int] = ()
) -> ContractRun:
    """Sends to `url` the same requests at every run: the examples of `document`, the borders, `examples` random ones.

    Of the statuses from 500 on only `faults` are taken for good, if they are described. `directory` gets the report.
    """
    config, report = directory / "schemathesis.toml", directory / "report.ndjson"
    config.write_text(f"[checks]\nnot_a_server_error.expected-statuses = {['2xx', '3xx', '4xx', *map(str, faults)]}\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", str(document)),
            *("--url", url, "--phases", "examples,coverage,fuzzing", "--max-examples", str(examples)),
            *("--generation-deterministic", "--no-shrink", "--warnings", "off", "--no-color"),
            *("--report", "ndjson", "--report-ndjson-path", str(report)),
        ],
        cwd=directory,
        env=clean_env(
            directory, PYTHONPATH=str(REPOSITORY), SCHEMATHESIS_HOOKS="tests.support.contract_hooks", COLUMNS="120"
        ),
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    run = ContractRun(done.returncode == 0, done.stdout + done.stderr)
    for recorder in _recorders(report):
        _count(run, recorder)
    return run


def _recorders(report: Path) -> Iterator[dict[str, Any]]:
    """What was sent and answered, by operation and phase."""
    for line in report.read_text().splitlines():
        finished = json.loads(line).get("ScenarioFinished", {})
        yield finished.get("recorder", {})


def _count(run: ContractRun, recorder: dict[str, Any]) -> None:
    label = recorder.get("label", "")
    for interaction in recorder.get("interactions", {}).values():
        run.cases += 1
        if label.startswith(interaction["request"]["method"] + " ") and interaction["response"]:
            run.statuses[label][interaction["response"]["status_code"]] += 1
    for checks in recorder.get("checks", {}).values():
        failed = {check["name"] for check in checks if check["status"] == "failure"}
        if failed:
            run.failed_checks[label] |= failed
