"""POST /unlock, GET /unlock/status and GET /unlock/plan over HTTP."""

from __future__ import annotations

from pathlib import Path

from loader.unlock.layers import layouts_of
from loader.unlock.room import JOURNAL_SIZE
from tests.support.archives import head_of
from tests.support.engines import Engine
from tests.support.handmade_image import CREATED, HandmadeImage, seal
from tests.support.http_calls import CREDENTIALS, call, post_json
from tests.support.images import import_image, remove_image
from tests.support.sites import BareSite, bare_site
from tests.support.thin_archives import index_of

REFERENCE = "azaion/web-unlock:1.2.3"


def test_unlock_of_present_images_is_ready(docker_engine: Engine, tmp_path: Path) -> None:
    import_image(docker_engine, REFERENCE)
    env = {
        "DOCKER_HOST": docker_engine.host,
        "EXPECTED_IMAGES": REFERENCE.removesuffix(":1.2.3"),
        "API_VERSION": "1.2.3",
    }
    try:
        with bare_site(tmp_path / "loader", **env) as running:
            assert call(running.url, "GET", "/unlock/status").json()["state"] == "idle"
            reply = post_json(running.url, "/unlock", CREDENTIALS)
            assert (reply.status, reply.json()) == (
                200,
                {"state": "ready", "authenticated": False, "proven": False, "started": False},
            )
            status = call(running.url, "GET", "/unlock/status").json()
            assert (status["state"], status["error"]) == ("ready", None)
    finally:
        remove_image(docker_engine, REFERENCE)


def test_refused_unlock_changes_nothing(lonely: BareSite) -> None:
    post_json(lonely.url, "/unlock", CREDENTIALS).problem(404, "ARCHIVE_NOT_FOUND")
    status = call(lonely.url, "GET", "/unlock/status").json()
    assert (status["state"], status["error"]) == ("idle", None)


def test_unlock_needs_credentials_before_it_looks_for_an_archive(lonely: BareSite) -> None:
    errors = post_json(lonely.url, "/unlock", {"email": ""}).problem(422, "VALIDATION_FAILED")["errors"]
    assert set(errors) == {"email", "password"}


def test_plan_without_an_archive_is_not_found(lonely: BareSite) -> None:
    call(lonely.url, "GET", "/unlock/plan").problem(404, "ARCHIVE_NOT_FOUND")


def test_the_plan_of_an_archive_needs_neither_login_nor_engine(tmp_path: Path) -> None:
    with bare_site(tmp_path / "loader") as running:
        directory = running.models.parent
        archive = seal(directory / "images.enc", [HandmadeImage("app:1.4")], version="7", serial=3)
        head = head_of(archive)
        (image,), (layout,) = head.images, layouts_of(head, set())
        plan = call(running.url, "GET", "/unlock/plan").json()
        (place,), failure = plan.pop("places"), plan.pop("failure")
        assert plan == {
            "archive": str(archive),
            "release": {"version": "7", "serial": 3, "created": CREATED, "head": index_of(archive).stored.digest},
            "older_than": None,
            "work": {
                "to_read": sum(blob.stored_size for blob in head.blobs),
                "to_send": layout.size,
                "to_unpack": head.blob[image.layers[0]].size,
            },
            "seconds": None,
            "mode": "tar",
            "images": [
                {
                    "reference": "docker.io/library/app:1.4",
                    "config": image.config,
                    "platform": "linux/amd64",
                    "created": CREATED,
                    "present": None,
                    "size": head.blob[image.layers[0]].size,
                    "to_send": layout.size,
                    "update": False,
                }
            ],
            "warnings": [],
            "engine_answers": False,
            "done": False,
            "fits": True,
        }
        assert (failure["code"], failure["retryable"]) == ("ENGINE_UNAVAILABLE", True)
        assert place.pop("free") > 0
        able = dict.fromkeys(("writable", "takes_files", "fits"), True)
        assert place == {
            "paths": [str(directory), str(running.models)],
            "needed": layout.size + JOURNAL_SIZE,
            **able,
        }
        assert call(running.url, "GET", "/unlock/status").json()["state"] == "idle"

        archive.write_bytes(b"no archive")
        call(running.url, "GET", "/unlock/plan").problem(500, "ARCHIVE_CORRUPT")
