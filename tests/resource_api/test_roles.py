"""Roles of users, and users that are disabled: on the command line, in the file, and from the next request on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from resource_api.accounts import Role, User, Users
from resource_api.cli import main
from resource_api.data_directory import DataDirectory, DataDirectoryError
from tests.resource_api.conftest import EMAIL, PASSWORD, Api
from tests.support.processes import poll

READER = "reader@example.com"
OBJECT = "/resources/m/x.small"


def run(*arguments: object, stdin: str = "") -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture(scope="module")
def reader(api: Api) -> dict[str, str]:
    """Return the Authorization header of a reader."""
    Users(api.data).set_password(READER, PASSWORD)
    return api.bearer(READER)


@pytest.fixture
def stored(api: Api, bearer: dict[str, str]) -> dict[str, bytes]:
    """Store the object of these tests, and return all that is stored."""
    api.call("PUT", OBJECT, bearer, b"content")
    return api.stored()


def test_a_reader_gets_the_refusal_even_while_it_is_still_sending(
    api: Api, reader: dict[str, str], stored: dict[str, bytes]
) -> None:
    assert api.call("PUT", OBJECT, reader, b"x" * 30_000_000).problem()["code"] == "FORBIDDEN"
    assert api.stored() == stored


def test_disabling_ends_tokens_and_logins_at_once_and_a_new_password_revives_no_token(api: Api) -> None:
    root, email = api.data.root, "captured@example.com"
    run("user", "add", root, email, stdin="first")
    before = api.bearer(email, "first")
    assert api.call("GET", "/resources", before).status == 200
    assert run("user", "disable", root, "Captured@Example.com").output == "Captured@Example.com: disabled\n"
    assert api.call("GET", "/resources", before).status == 401
    refused = api.login(email, "first")
    assert (refused.status, refused.body) == (401, api.login(email, "wrong").body)

    assert run("user", "add", root, email, stdin="first").output == f"{email}: password changed, reader\n"
    assert api.call("GET", "/resources", before).status == 401
    assert api.call("GET", "/resources", api.bearer(email, "first")).status == 200


def test_a_new_role_counts_from_the_next_request(api: Api) -> None:
    users, email = Users(api.data), "promoted@example.com"
    for role, status in ((Role.READER, 403), (Role.PUBLISHER, 404), (None, 404), (Role.READER, 403)):
        users.set_password(email, PASSWORD, role)
        assert api.call("DELETE", "/resources/none", api.bearer(email)).status == status


def test_a_role_that_the_file_changes_counts_for_tokens_that_are_there(data: DataDirectory) -> None:
    with Api(data) as api:
        bearer = api.bearer()
        assert api.call("DELETE", "/resources/none", bearer).status == 404
        data.users_file.write_text(data.users_file.read_text().replace('"publisher"', '"reader"'))
        poll(lambda: api.call("DELETE", "/resources/none", bearer).status == 403, 10, "the role counts")


def test_users_are_listed_with_role_and_state(data: DataDirectory) -> None:
    run("user", "add", data.root, READER, stdin="x")
    run("user", "disable", data.root, EMAIL)
    assert run("user", "list", data.root).output == f"{EMAIL}  publisher  disabled\n{READER}  reader\n"
    assert json.loads(run("user", "list", data.root, "--json").output) == [
        {"email": EMAIL, "role": "publisher", "kind": "person", "disabled": True},
        {"email": READER, "role": "reader", "kind": "person", "disabled": False},
    ]


def test_no_users_are_an_empty_list(tmp_path: Path) -> None:
    data = DataDirectory.create(tmp_path / "empty")
    assert (run("user", "list", data.root).output, run("user", "list", data.root, "--json").output) == ("", "[]\n")


def test_an_unknown_user_is_not_disabled_and_an_unknown_role_is_wrong_usage(data: DataDirectory) -> None:
    before = data.users_file.read_bytes()
    result = run("user", "disable", data.root, READER)
    assert (result.exit_code, result.output) == (1, f"Error: there is no user {READER}\n")
    assert run("user", "add", data.root, READER, "--role", "admin", stdin="x").exit_code == 2
    assert data.users_file.read_bytes() == before


@pytest.mark.parametrize(
    "damaged",
    [
        *("", "{", "[" * 100_000, "[]", "1", "null", '{"a@b": null}', '{"a@b": {}}', '{"a@b": "scrypt:hash"}'),
        '{"a@b": {"password": "x", "role": "reader"}}',
        '{"a@b": {"password": "x", "role": "admin", "disabled": false}}',
        '{"a@b": {"password": "x", "role": "publisher", "disabled": 0}}',
        '{"a@b": {"password": null, "role": "publisher", "disabled": false}}',
    ],
)
def test_a_damaged_file_is_one_clear_line_and_stays(data: DataDirectory, damaged: str) -> None:
    data.users_file.write_text(damaged)
    for command in (["list"], ["disable", EMAIL], ["remove", EMAIL]):
        result = run("user", command[0], data.root, *command[1:])
        assert result.exit_code == 1
        assert result.output.startswith(f"Error: {data.users_file} is damaged: ")
        assert result.output.count("\n") == 1
    with pytest.raises(DataDirectoryError):
        Users(data).set_password(EMAIL, PASSWORD)
    assert data.users_file.read_text() == damaged


def test_the_hash_is_not_in_the_representation_of_a_user() -> None:
    assert "hash" not in repr(User(EMAIL, "scrypt:hash")).replace("password_hash", "")
