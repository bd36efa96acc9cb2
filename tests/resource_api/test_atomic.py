"""Files that replace others, and what killed processes left of them."""

import tempfile
from pathlib import Path
from typing import Any

import pytest

from resource_api.accounts import Users
from resource_api.atomic import remove_leftovers, replacing
from resource_api.data_directory import DataDirectory
from resource_api.fragments import Fragments
from tests.resource_api.conftest import FRAGMENT


def test_a_file_that_is_removed_before_it_is_locked_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    create = tempfile.mkstemp

    def create_and_lose(**options: Any) -> tuple[int, str]:
        descriptor, name = create(**options)
        made.append(name)
        if len(made) == 1:
            remove_leftovers(tmp_path / "tmp")
        return descriptor, name

    monkeypatch.setattr(tempfile, "mkstemp", create_and_lose)
    (tmp_path / "tmp").mkdir()
    with replacing(tmp_path / "file", tmp_path / "tmp") as file:
        file.write(b"content")
    assert len(made) == 2
    assert (tmp_path / "file").read_bytes() == b"content"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_cannot_be_removed_stays(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "leftover").touch()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


@pytest.mark.parametrize("storage", ["state", "objects"])
def test_a_change_of_the_state_removes_what_killed_commands_left(tmp_path: Path, storage: str) -> None:
    data = DataDirectory.create(tmp_path / "state", tmp_path / storage)
    changes = (
        lambda: Users(data).set_secret("device-7"),
        lambda: Fragments(data).set(FRAGMENT),
        lambda: Fragments(data).set_minimum_serial(7),
    )
    for change in changes:
        (data.root / "tmp" / "leftover").write_bytes(b"users, or key fragments")
        change()
        assert list((data.root / "tmp").iterdir()) == []
