"""Who unlocked, when and why not: the audit lines of an unlock, and what is remembered of it."""

from __future__ import annotations

from typing import Any

from tests.support.archives import APP
from tests.support.handmade_image import HandmadeImage, seal
from tests.support.http_calls import post_json
from tests.support.processes import poll
from tests.support.unlocking import EMAIL, PASSWORD, READY, Rig

pytest_plugins = ("tests.support.unlock_fixtures",)

IMAGE = HandmadeImage(APP)
SECONDS = 10.0


def lines_since(rig: Rig, count: int, expected: int) -> list[dict[str, Any]]:
    """Return the audit lines after the first `count`, once there are `expected` of them."""

    def lines() -> list[dict[str, Any]]:
        return [line for line in rig.operator.loader.log_lines() if line["logger"] == "loader.audit"][count:]

    poll(lambda: len(lines()) >= expected, SECONDS, "the audit lines")
    found = lines()
    assert len(found) == expected
    return found


def count(rig: Rig) -> int:
    return sum(line["logger"] == "loader.audit" for line in rig.operator.loader.log_lines())


def told(line: dict[str, Any]) -> tuple[object, ...]:
    return tuple(line[name] for name in ("event", "outcome", "code", "user", "client", "version"))


def test_an_unlock_has_a_line_for_its_login_and_one_for_itself(rig: Rig) -> None:
    seal(rig.device.archive, [IMAGE])
    before = count(rig)
    assert rig.operator.unlock() == READY
    login, unlock = lines_since(rig, before, 2)
    assert told(login) == ("login", "ok", None, EMAIL, "127.0.0.1", None)
    assert told(unlock) == ("unlock", "ok", None, EMAIL, "127.0.0.1", "1.4")
    assert login["request_id"] == unlock["request_id"]
    assert (unlock["file"], unlock["bytes"]) == (str(rig.device.archive), rig.device.archive.stat().st_size)
    last = rig.operator.get("/status")["last"]
    assert (last["unlock"]["outcome"], last["unlock"]["version"], last["unlock"]["user"]) == ("ok", "1.4", EMAIL)
    assert last["unlock"]["request_id"] == unlock["request_id"]
    assert last["login"]["outcome"] == "ok"


def test_a_failed_unlock_says_who_tried_and_why_it_failed(rig: Rig) -> None:
    seal(rig.device.archive, [IMAGE])
    before = count(rig)
    assert rig.operator.unlock("a wrong password").code == "LOGIN_REJECTED"
    login, unlock = lines_since(rig, before, 2)
    assert told(login) == ("login", "failed", "LOGIN_REJECTED", EMAIL, "127.0.0.1", None)
    assert told(unlock) == ("unlock", "failed", "LOGIN_REJECTED", EMAIL, "127.0.0.1", "1.4")
    last = rig.operator.get("/status")["last"]["unlock"]
    assert (last["code"], last["reason"]) == ("LOGIN_REJECTED", unlock["reason"])


def test_a_request_that_starts_no_run_has_a_line_of_its_own(rig: Rig) -> None:
    rig.wire.hold_upload(after=1024)
    seal(rig.device.archive, [IMAGE])
    before = count(rig)
    rig.operator.post()
    rig.wire.wait_until_held()
    post_json(rig.operator.loader.url, "/unlock", {"email": "b@example.com", "password": PASSWORD})
    _, joined = lines_since(rig, before, 2)
    assert told(joined) == ("unlock", "joined", None, "b@example.com", "127.0.0.1", None)
    rig.wire.release()
    assert rig.operator.rest() == READY
    lines_since(rig, before, 3)
    rig.operator.post()
    *_, unchanged = lines_since(rig, before, 4)
    assert told(unchanged) == ("unlock", "unchanged", None, EMAIL, "127.0.0.1", None)
    assert rig.operator.get("/status")["last"]["unlock"]["outcome"] == "ok"


def test_a_refused_unlock_has_a_line(rig: Rig) -> None:
    before = count(rig)
    assert rig.operator.post()[0] == 404
    (refused,) = lines_since(rig, before, 1)
    assert told(refused) == ("unlock", "failed", "ARCHIVE_NOT_FOUND", EMAIL, "127.0.0.1", None)
