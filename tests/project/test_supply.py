"""The packages of the loader: pinned with hashes, tested as shipped, and checked for known vulnerabilities."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from loader.version import VERSION
from tests.support.missing import missing
from tools import audit

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK, re.MULTILINE))
UNREACHABLE = "http://127.0.0.1:9"


def required() -> list[Requirement]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def unsatisfied(pins: dict[str, str]) -> list[str]:
    """Return the requirements, of the loader or of a pinned package, that no pin satisfies."""
    needed = required()
    for name in pins:
        found = map(Requirement, importlib.metadata.requires(name) or [])
        needed += [each for each in found if each.marker is None or each.marker.evaluate({"extra": ""})]
    named = [(each, re.sub(r"[-_.]+", "-", each.name).lower()) for each in needed]
    return [str(each) for each, name in named if name not in pins or not each.specifier.contains(pins[name])]


def test_the_lock_satisfies_the_requirements() -> None:
    assert unsatisfied(PINS) == []


@pytest.mark.parametrize(("name", "version"), [("flask", "2.0.0"), ("urllib3", "1.0")])
def test_a_pin_out_of_range_or_missing_is_found(name: str, version: str) -> None:
    assert unsatisfied({**PINS, name: version})
    assert unsatisfied({other: pin for other, pin in PINS.items() if other != name})


def test_every_pin_has_hashes_and_is_the_version_that_the_tests_run() -> None:
    assert len(re.findall(r"==\S+ \\\n +--hash=sha256:[0-9a-f]{64}", LOCK)) == len(PINS)
    installed = {name: Version(importlib.metadata.version(name)) for name in PINS}
    assert installed == {name: Version(pin) for name, pin in PINS.items()}


def test_pyproject_reads_the_version_and_the_dependencies_from_one_file_each() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version", "dependencies"]
    assert project["tool"]["setuptools"]["dynamic"]["dependencies"] == {"file": "requirements.txt"}
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "loader.version.VERSION"}
    assert str(Version(VERSION)) == VERSION


def test_an_audit_fails_for_a_known_vulnerability(capsys: pytest.CaptureFixture[str]) -> None:
    found: list[dict[str, Any]] = [
        {"name": "sound", "version": "1", "vulns": []},
        {"name": "flawed", "version": "2", "vulns": [{"id": "CVE-0000-1", "fix_versions": ["3"]}]},
    ]
    assert audit.report(found) == 1
    assert capsys.readouterr().out == "audit: flawed 2 has CVE-0000-1, fixed in 3\n"
    assert audit.report(found[:1]) == 0
    assert capsys.readouterr().out == ""


def test_an_audit_reports_packages_that_the_database_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.report(json.loads('[{"name": "unknown", "skip_reason": "not found"}]')) == 0
    assert "NOT DONE" in capsys.readouterr().out


def test_an_audit_without_the_database_prints_a_note_and_succeeds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec("pip_audit") is None:
        missing("pip-audit", "it is not installed")
    monkeypatch.setenv("HTTPS_PROXY", UNREACHABLE)
    assert audit.main() == 0
    assert "NOT DONE" in capsys.readouterr().out
