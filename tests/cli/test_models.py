"""`azaion-loader models`, and the names of `cache list`, against a real loader."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.cli.cli_runs import invoke
from tests.support.http_calls import call, upload
from tests.support.sites import Site, real_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A loader whose API has two models and a damaged one."""
    with real_site(tmp_path_factory.mktemp("listed")) as running:
        assert upload(running.url, "", "tiny", bytes(10)).status == 200
        assert upload(running.url, "day", "m.onnx", bytes(3_000_000)).status == 200
        running.stored("day/damaged.small").write_bytes(b"")
        yield running


def test_models_are_listed_with_what_is_known_of_them(site: Site) -> None:
    done = invoke(site.url, "models")
    assert (done.exit_code, done.stderr) == (0, "")
    damaged, model, tiny, total = done.stdout.splitlines()
    assert damaged == "day/damaged  ?  ?  RESOURCE_CORRUPT"
    assert re.fullmatch(r"day/m\.onnx  3 MB  \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  cached", model)
    assert re.fullmatch(r"tiny  10 B  \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  cached", tiny)
    assert total == "3 models, 3 MB"
    assert json.loads(invoke(site.url, "models", "--json").stdout) == call(site.url, "GET", "/models").json()


def test_the_cache_has_names_once_the_models_were_listed(site: Site) -> None:
    assert invoke(site.url, "models").exit_code == 0
    entry = invoke(site.url, "cache", "list").stdout.splitlines()[0]
    assert entry.endswith("whole  day/m.onnx")


def test_a_missing_login_is_told(site: Site) -> None:
    assert call(site.url, "POST", "/lock").status == 200
    done = invoke(site.url, "models")
    assert (done.exit_code, "(NOT_LOGGED_IN)" in done.stderr) == (5, True)
