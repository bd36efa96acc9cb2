"""The ETags of replicas that keep objects in data directories."""

from __future__ import annotations

import hashlib
from pathlib import Path

from resource_api.data_directory import DataDirectory
from tests.resource_api.conftest import Api, new_data


def test_the_etag_is_that_of_the_content_on_every_replica(data: DataDirectory, tmp_path: Path) -> None:
    name = f"/resources/x.{'ab' * 32}.big"
    (tmp_path / "replica").mkdir()
    etags = []
    for replica in (data, new_data(tmp_path / "replica")):
        with Api(replica) as api:
            bearer = api.bearer()
            for path, content in (("/resources/a", b"one"), ("/resources/a", b"two"), (name, b"big")):
                api.call("PUT", path, bearer, content)
                etags.append(api.call("HEAD", path, bearer).headers["ETag"])
    assert etags[:3] == etags[3:]
    assert len(set(etags)) == 3


def test_the_etag_of_a_big_object_without_an_id_is_its_hash(api: Api, bearer: dict[str, str]) -> None:
    api.call("PUT", f"/resources/m/x.{'a' * 31}.big", bearer, b"content")
    etag = api.call("HEAD", f"/resources/m/x.{'a' * 31}.big", bearer).headers["ETag"]
    assert etag == f'"{hashlib.sha256(b"content").hexdigest()}"'
