"""Accounts of devices: a random secret in place of a password, with a fast hash that is for such secrets only."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
from click.testing import CliRunner, Result

from loader.api_client.client import ApiClient
from loader.errors import LoginRejected
from resource_api import device_secrets
from resource_api.accounts import Users
from resource_api.cli import main
from resource_api.data_directory import DataDirectory
from tests.resource_api.conftest import EMAIL, PASSWORD, Api

SECRET = re.compile(r"device-[A-Za-z0-9_-]{43}\n")


def run(*arguments: object, stdin: str = "") -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def new_secret(data: DataDirectory, name: str, *options: str) -> str:
    """Make a device by the command, and return its secret."""
    done = run("user", "add", data.root, "--device", name, *options)
    assert done.exit_code == 0
    assert SECRET.fullmatch(done.stdout)
    return done.stdout.strip()


def test_the_secret_is_printed_alone_and_only_its_hash_is_stored(data: DataDirectory) -> None:
    done = run("user", "add", data.root, "--device", "Device-7")
    assert SECRET.fullmatch(done.stdout)
    assert done.stderr == "Device-7: added, reader\n"
    stored = json.loads(data.users_file.read_text())["device-7"]["password"]
    assert stored == "sha256$" + hashlib.sha256(done.stdout.strip().encode()).hexdigest()
    assert done.stdout.strip() not in data.users_file.read_text()


def test_secrets_have_256_random_bits() -> None:
    made = {device_secrets.new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(device_secrets.is_secret(secret) for secret in made)
    # Each of the 43 characters has 6 bits, the last one 4.
    assert all(len({secret[place] for secret in made}) > 8 for place in range(len("device-"), 50))


@pytest.mark.parametrize("sent", ["", "device-", f"device-{'a' * 42}", f"device-{'a' * 44}", f"device-{'a' * 43}\n"])
def test_other_passwords_do_not_have_the_form_of_a_secret(sent: str) -> None:
    assert device_secrets.is_secret(f"device-{'a' * 43}")
    assert not device_secrets.is_secret(sent)


def test_a_loader_logs_in_with_the_secret_of_its_device(api: Api) -> None:
    secret = new_secret(api.data, "device-8")
    client = ApiClient(f"http://127.0.0.1:{api.port}", ca_bundle=None, timeouts=(10.0, 10.0))
    for wrong in (PASSWORD, secret[:-1], secret[:-1] + ("A" if secret[-1] != "A" else "Q"), secret.upper()):
        with pytest.raises(LoginRejected):
            client.login("device-8", wrong)
    client.login("Device-8", secret)
    assert client.authenticated


def test_a_secret_opens_its_own_account_only(api: Api) -> None:
    first, second = new_secret(api.data, "device-1"), new_secret(api.data, "device-2")
    assert api.login("device-1", first).status == api.login("device-2", second).status == 200
    refused = [api.login(name, sent) for name, sent in (("device-1", second), (EMAIL, first), ("nobody", first))]
    assert {reply.status for reply in refused} == {401}
    assert len({reply.body for reply in refused}) == 1


def test_a_stored_hash_is_no_secret(api: Api) -> None:
    new_secret(api.data, "device-3")
    stored = json.loads(api.data.users_file.read_text())["device-3"]["password"]
    assert api.login("device-3", stored).status == 401


def test_a_new_secret_ends_the_old_one_and_its_tokens_and_keeps_the_role(api: Api) -> None:
    old = new_secret(api.data, "builder", "--role", "publisher")
    bearer = api.bearer("builder", old)
    assert api.call("DELETE", "/resources/none", bearer).status == 404
    done = run("user", "add", api.data.root, "--device", "builder")
    assert done.stderr == "builder: secret changed, publisher\n"
    assert api.call("GET", "/resources", bearer).status == 401
    assert api.login("builder", old).status == 401
    assert api.login("builder", done.stdout.strip()).status == 200
    assert run("user", "disable", api.data.root, "builder").exit_code == 0
    assert api.login("builder", done.stdout.strip()).status == 401


def test_a_password_of_the_form_of_a_secret_is_refused(data: DataDirectory) -> None:
    before = data.users_file.read_bytes()
    done = run("user", "add", data.root, EMAIL, stdin=device_secrets.new_secret())
    assert (done.exit_code, done.output) == (
        1,
        "Error: a password must not look like the secret of a device; --device makes such secrets\n",
    )
    assert data.users_file.read_bytes() == before


@pytest.mark.parametrize("name", ["", "a b", "a\n", "a" * 255])
def test_a_name_that_is_no_word_is_refused(data: DataDirectory, name: str) -> None:
    assert run("user", "add", data.root, "--device", name).exit_code == 2


def test_the_list_shows_the_kind(data: DataDirectory) -> None:
    new_secret(data, "device-7")
    run("user", "disable", data.root, "device-7")
    assert run("user", "list", data.root).output == f"device-7  reader  device  disabled\n{EMAIL}  publisher\n"
    listed = json.loads(run("user", "list", data.root, "--json").output)
    assert [each["kind"] for each in listed] == ["device", "person"]


def test_an_account_can_change_its_kind(data: DataDirectory) -> None:
    new_secret(data, EMAIL)
    device = Users(data).find(EMAIL)
    run("user", "add", data.root, EMAIL, stdin="word\n")
    person = Users(data).find(EMAIL)
    assert (device and device.is_device, person and person.is_device) == (True, False)
