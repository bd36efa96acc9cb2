"""Runs schemathesis, which makes requests from the OpenAPI document and checks every response against it."""

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
    """The result of a run.

    `statuses` counts the responses by operation, without responses to other methods of its path; `cases` counts all
    requests. `failed_checks` has the names of the failed checks by operation. `output` is what schemathesis printed.
    """

    passed: bool
    output: str
    cases: int = 0
    statuses: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    failed_checks: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def summary(self) -> str:
        """Return one line with the numbers of operations, cases and failures."""
        failures = sum(len(names) for names in self.failed_checks.values())
        return f"{len(self.statuses)} operations, {self.cases} cases, {failures} failures"


def run_contract(
    document: Path, url: str, directory: Path, *, examples: int, faults: Sequence[int] = ()
) -> ContractRun:
    """Send requests to `url`, the same at every run, and return the result.

    The requests are the examples of `document`, the boundary values, and up to `examples` random requests for each
    operation. A status from 500 on is a failure unless it is in `faults` and `document` describes it. The
    configuration and the report of schemathesis are written to `directory`.
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
            directory, PYTHONPATH=str(REPOSITORY), SCHEMATHESIS_HOOKS="tests.web.contract_hooks", COLUMNS="120"
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
    """Yield the records of requests, responses and checks in `report`, one record for each operation and phase."""
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
