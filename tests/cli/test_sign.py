"""`sign new`, `images sign`, `images pack --sign`, and PUBLISHER_KEYS in the commands that read archives."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from loader.crypto.signatures import SigningKey
from loader.publisher_keys import PublisherKey, PublisherKeys, key_text
from tests.cli.packing_runs import assert_refused, invoke
from tests.support.handmade_image import HandmadeImage, docker_archive
from tests.support.loader_server import run_loader
from tests.support.publishers import ANNA, BEN, EVE, TRUSTED, numbered_keys, write_key, write_publishers
from tests.support.thin_archives import release


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return release(tmp_path / "images.enc", 1)


@pytest.fixture
def annas(tmp_path: Path) -> Path:
    return write_key(tmp_path / "anna.key", ANNA)


@pytest.fixture
def publishers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that PUBLISHER_KEYS names in this process."""
    path = write_publishers(tmp_path / "publishers")
    monkeypatch.setenv("PUBLISHER_KEYS", str(path))
    return path


def test_a_new_key_is_its_owners_alone_and_prints_its_line(tmp_path: Path) -> None:
    path = tmp_path / "anna.key"
    done = run_loader(tmp_path, "sign", "new", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = SigningKey.parse(path.read_bytes())
    assert PublisherKeys.parse(done.stdout).keys == (PublisherKey("anna", key.public),)


def test_a_key_is_never_overwritten(annas: Path) -> None:
    before = annas.read_bytes()
    assert_refused(invoke("sign", "new", annas), "STORAGE_ERROR", 8)
    link = annas.with_name("link")
    link.symlink_to("nowhere")
    assert_refused(invoke("sign", "new", link), "STORAGE_ERROR", 8)
    assert annas.read_bytes() == before
    assert not annas.with_name("nowhere").exists()


@pytest.mark.parametrize(
    ("file", "name"),
    [("ben.pem", "ben"), ("our key 1.key", "our-key-1"), ("#1", "1"), ("#", "publisher"), ("\x1b", "publisher")],
)
def test_the_line_has_a_name_whatever_the_file_is_called(tmp_path: Path, file: str, name: str) -> None:
    done = invoke("sign", "new", tmp_path / file)
    (key,) = PublisherKeys.parse(done.stdout).keys
    assert key.name == name


def test_an_archive_is_signed_by_two_persons_and_names_them(
    archive: Path, annas: Path, publishers: Path, tmp_path: Path
) -> None:
    assert publishers.exists()
    for file in (annas, write_key(tmp_path / "eve.key", EVE)):
        done = invoke("images", "sign", archive, "--key", file)
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith("release 1, serial 1, ")
    eve = key_text(EVE.public)
    assert f"\nsigned by anna\nsigned by the key {eve}\n" in invoke("images", "show", archive).stdout
    document = json.loads(invoke("images", "show", archive, "--json").stdout)
    assert document["signatures"] == [
        {"key": key_text(ANNA.public), "name": "anna", "valid": True},
        {"key": eve, "name": None, "valid": True},
    ]


def test_without_publishers_keys_are_shown_themselves(archive: Path, annas: Path) -> None:
    assert "signed" not in invoke("images", "show", archive).stdout
    invoke("images", "sign", archive, "--key", annas)
    assert f"signed by the key {key_text(ANNA.public)}\n" in invoke("images", "show", archive).stdout


def test_a_false_signature_is_shown_as_such(archive: Path, annas: Path, publishers: Path) -> None:
    assert publishers.exists()
    invoke("images", "sign", archive, "--key", annas)
    later = release(archive.with_name("later.enc"), 2)
    invoke("images", "sign", later, "--key", annas)
    signatures = [json.loads(split(path)[1])["signatures"] for path in (archive, later)]
    start, seals, end = split(archive)
    moved = json.dumps({**json.loads(seals), "signatures": signatures[1]}, separators=(",", ":")).encode()
    archive.write_bytes(start + len(moved).to_bytes(4, "big") + moved + end)
    assert "\nan invalid signature in the name of anna\n" in invoke("images", "show", archive).stdout
    assert_refused_untrusted(archive)


def split(path: Path) -> tuple[bytes, bytes, bytes]:
    """Return what stands before the seals and their length, the seals, and what stands after them."""
    data = path.read_bytes()
    begin = 12 + int.from_bytes(data[8:12], "big")
    end = begin + 4 + int.from_bytes(data[begin : begin + 4], "big")
    return data[:begin], data[begin + 4 : end], data[end:]


def assert_refused_untrusted(archive: Path) -> None:
    result = invoke("images", "verify", archive)
    assert result.exit_code == 7
    assert result.stderr.endswith(" (UNTRUSTED_PUBLISHER)\n")


def test_verify_needs_a_trusted_signature(archive: Path, annas: Path, publishers: Path, key: Path) -> None:
    assert publishers.exists()
    assert_refused_untrusted(archive)
    invoke("images", "sign", archive, "--key", annas)
    for more in ((), ("--key", key)):
        done = invoke("images", "verify", archive, *more)
        assert done.exit_code == 0, done.output
        assert "\nsigned by anna\n" in done.stdout


def test_install_needs_a_trusted_signature(archive: Path, annas: Path, publishers: Path, tmp_path: Path) -> None:
    place = tmp_path / "device" / "images.enc"
    place.parent.mkdir()
    env = {"IMAGES_PATH": str(place), "API_VERSION": "1", "PUBLISHER_KEYS": str(publishers)}
    refused = run_loader(tmp_path, "images", "install", str(archive), **env)
    assert refused.returncode == 7
    assert refused.stderr.endswith(" (UNTRUSTED_PUBLISHER)\n")
    assert not place.exists()
    invoke("images", "sign", archive, "--key", annas)
    done = run_loader(tmp_path, "images", "install", str(archive), **env)
    assert done.returncode == 0, done.stderr
    assert place.read_bytes() == archive.read_bytes()


def test_pack_signs_with_each_key_once(key: Path, annas: Path, publishers: Path, tmp_path: Path) -> None:
    assert publishers.exists()
    (tmp_path / "source.tar").write_bytes(b"".join(docker_archive(HandmadeImage("app:3"))))
    bens, again = write_key(tmp_path / "ben.key", BEN), write_key(tmp_path / "again.key", ANNA)
    output = tmp_path / "packed.enc"
    pack = ("images", "pack", "--from", tmp_path / "source.tar", "--key", key, "-o", output)
    done = invoke(*pack, "--sign", annas, "--sign", bens, "--sign", again)
    assert done.exit_code == 0, done.output
    assert "\nsigned by anna\nsigned by ben\n" in invoke("images", "show", output).stdout


def test_pack_refuses_bad_keys_before_it_reads_the_source(key: Path, annas: Path, tmp_path: Path) -> None:
    output = tmp_path / "packed.enc"
    pack = ("images", "pack", "--from", "-", "--version", "1", "--key", key, "-o", output)
    assert_refused(invoke(*pack, "--sign", key), "VALIDATION_FAILED", 4)
    many = [write_key(tmp_path / f"{number}.key", one) for number, one in enumerate(numbered_keys(16))]
    signing = [word for path in (annas, *many) for word in ("--sign", path)]
    assert_refused(invoke(*pack, *signing), "VALIDATION_FAILED", 4)
    assert invoke(*pack[:-1], annas, "--sign", annas).exit_code == 2
    assert SigningKey.parse(annas.read_bytes()).public == ANNA.public
    assert not output.exists()


def test_sign_refuses_what_is_no_signing_key(archive: Path, key: Path) -> None:
    before = archive.read_bytes()
    assert_refused(invoke("images", "sign", archive, "--key", key), "VALIDATION_FAILED", 4)
    assert archive.read_bytes() == before


@pytest.mark.parametrize("command", ["show", "verify"])
def test_broken_publishers_are_wrong_usage(command: str, archive: Path, publishers: Path) -> None:
    publishers.write_text("anna\n")
    done = invoke("images", command, archive)
    assert done.exit_code == 2
    assert "PUBLISHER_KEYS names a file whose line 1 is not NAME BASE64 [YYYY-MM-DD]" in done.stderr


def test_an_expired_key_counts_and_is_warned_of(archive: Path, annas: Path, publishers: Path) -> None:
    publishers.write_text(f"{TRUSTED.keys[0]} 2020-01-31\n")
    invoke("images", "sign", archive, "--key", annas)
    done = invoke("images", "verify", archive)
    assert done.exit_code == 0
    assert "warning: PUBLISHER_KEYS: the key of anna expired on 2020-01-31" in done.stderr
    assert invoke("images", "show", archive, "--json").stderr == ""
