"""A fetch that any of its steps ends leaves the old release or the new one, and the next one ends well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loader.install import install
from tests.fetch.published import VERSION, hold, objects, release
from tests.packing.packs import unwatched
from tests.support.loader_server import run_python
from tests.support.range_upstream import RangeUpstream
from tests.support.thin_archives import thin_of

KINDS = pytest.mark.parametrize("kind", ["full", "thin"])


def ended(tmp_path: Path, kind: str, module: str) -> dict[str, Any]:
    """Run `module` on a device with release 1, whose API has release 2, and return what it tells."""
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
        run = run_python(tmp_path, "-m", module, *arguments, PYTHONPATH=".")
    assert run.returncode == 0, run.stderr
    return dict(json.loads(run.stdout))


@KINDS
def test_a_kill_before_any_step(tmp_path: Path, kind: str) -> None:
    told = ended(tmp_path, kind, "tests.fetch.killed")
    assert set(told["left"]) == {"old", "new"}
    assert told["left"] == sorted(told["left"], reverse=True)
    assert any(step.startswith("replace") and step.endswith("images.enc") for step in told["steps"])


@pytest.mark.long
@KINDS
def test_a_power_cut_before_any_step(tmp_path: Path, kind: str) -> None:
    told = ended(tmp_path, kind, "tests.fetch.power_cuts")
    for disk in ("whole", "unsynced"):
        left = [told["left"][f"{number}-{disk}"] for number in range(len(told["steps"]))]
        assert set(left) == {"old", "new"}
        assert left == sorted(left, reverse=True)
    assert {step.split()[0] for step in told["steps"]} >= {"fsync", "replace", "unlink", "pwrite"}
