"""deploy/alerts.yaml and GET /metrics, as promtool of Prometheus sees them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.http_calls import load, upload
from tests.support.loader_server import REPOSITORY
from tests.support.missing import missing
from tests.support.scrapes import scrape
from tests.support.sites import Site, real_site

ALERTS = REPOSITORY / "deploy" / "alerts.yaml"
CASES = Path(__file__).with_name("alerts_test.yaml")
MANUAL = REPOSITORY / "docs" / "operations.md"


def promtool(*arguments: str, text: str = "") -> None:
    """Run promtool, which must find nothing wrong."""
    if shutil.which("promtool") is None:
        missing("promtool", "it is not installed")
    done = subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A device that has had a login, an upload, a load and a failed load."""
    with real_site(tmp_path_factory.mktemp("site"), API_VERSION="1.4") as running:
        assert upload(running.url, "", "m", b"model").status == 200
        assert load(running.url, "", "m").status == 200
        assert load(running.url, "", "nothing").status == 404
        yield running


def test_there_are_three_rules_that_promtool_accepts() -> None:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    assert len(group["rules"]) == 3
    promtool("check", "rules", str(ALERTS))


def test_the_rules_fire_when_they_should_and_at_no_other_time() -> None:
    promtool("test", "rules", str(CASES))


def test_promtool_finds_nothing_to_improve_in_the_metrics(site: Site) -> None:
    promtool("check", "metrics", text=scrape(site.url).text)


def test_every_metric_of_a_rule_is_one_of_the_loader(site: Site) -> None:
    named = set(re.findall(r"azaion_loader_\w+", ALERTS.read_text()))
    assert named <= {name for name, _ in scrape(site.url).samples}


def test_the_manual_describes_exactly_the_metrics_of_the_loader(site: Site) -> None:
    (section,) = re.findall(r"^## Watching a fleet: Prometheus$(.*?)^## ", MANUAL.read_text(), re.M | re.S)
    names = re.findall(r"^\| (`azaion_loader_.*?) \|", section, re.M)
    described = set(re.findall(r"azaion_loader_\w+", "".join(names)))
    told = set(re.findall(r"^# TYPE (azaion_loader_\w+)", scrape(site.url).text, re.M))
    # A fetch has its progress only once there was one.
    assert told <= described
    assert described - told == {"azaion_loader_fetch_done_bytes", "azaion_loader_fetch_expected_bytes"}
