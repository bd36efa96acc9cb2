"""The list of objects in a data directory."""

from __future__ import annotations

import json

import pytest

from resource_api.data_directory import DataDirectory
from resource_api.storage.directory import DirectoryStorage
from tests.resource_api.conftest import Api


def listed(api: Api, bearer: dict[str, str], prefix: str) -> list[str]:
    return [
        each["name"] for each in json.loads(api.call("GET", f"/resources?prefix={prefix}", bearer).body)["resources"]
    ]


def test_what_no_request_can_name_is_not_listed(api: Api, bearer: dict[str, str]) -> None:
    (api.data.resources / ".hidden").write_bytes(b"x")
    (api.data.resources / "lost").symlink_to("/nowhere")
    (api.data.temporary / "running").write_bytes(b"x")
    try:
        assert listed(api, bearer, "") == []
    finally:
        for path in (api.data.resources / ".hidden", api.data.resources / "lost", api.data.temporary / "running"):
            path.unlink()


def test_ten_thousand_objects_are_listed_in_order(api: Api, bearer: dict[str, str]) -> None:
    names = sorted(f"many/{number % 100}/{number}" for number in range(10_000))
    for name in names:
        path = api.data.resources / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert listed(api, bearer, "many/") == names
    assert len(listed(api, bearer, "many/42/")) == 100


def test_what_became_a_folder_or_was_removed_during_the_listing_is_left_out(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing has found files that other requests have removed since, also with their folders."""
    store = DirectoryStorage(data)
    store.put("folder", 1, [b"x"])
    found = [data.resources / name for name in ("folder", "folder/inside", "removed")]
    monkeypatch.setattr("resource_api.storage.directory._files_below", lambda _: iter(found))
    assert [each.name for each in store.find("")] == ["folder"]
