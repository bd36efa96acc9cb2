"""A fetch that is killed before any of its steps leaves the old release or the new one, and the next one ends well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loader.install import install
from tests.fetch.published import VERSION, hold, objects, release
from tests.packing.packs import unwatched
from tests.support.loader_server import run_python
from tests.support.range_upstream import RangeUpstream
from tests.support.thin_archives import thin_of


@pytest.mark.parametrize("kind", ["full", "thin"])
def test_a_kill_before_any_step(tmp_path: Path, kind: str) -> None:
    first, second = (release(tmp_path / f"{number}.enc", number, 4096) for number in (1, 2))
    place = tmp_path / "work" / "template" / "images.enc"
    place.parent.mkdir(parents=True)
    install(second if kind == "thin" else first, place, VERSION, unwatched)
    if kind == "thin":
        carried = tmp_path / "thin.enc"
        carried.write_bytes(thin_of(first, second))
        install(carried, place, VERSION, unwatched)
    (tmp_path / "published").mkdir()
    with RangeUpstream(tmp_path / "published") as api:
        hold(api, tmp_path / "published", objects(second))
        arguments = (str(tmp_path / "work"), api.url, str(first), str(second))
        ended = run_python(tmp_path, "-m", "tests.fetch.killed", *arguments, PYTHONPATH=".")
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert set(told["left"]) == {"old", "new"}
    assert told["left"] == sorted(told["left"], reverse=True)
    assert any(step.startswith("replace") and step.endswith("images.enc") for step in told["steps"])
