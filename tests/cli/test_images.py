"""`azaion-loader key` and `azaion-loader images`: what they write and print, and what they refuse."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from loader.cli.output import size_text
from loader.docker_engine import DockerEngine
from loader.errors import EngineUnavailable
from tests.cli.packing_runs import assert_refused, invoke
from tests.support.archives import APP, DATABASE, PLATFORM, PREFIX, Packed, head_of
from tests.support.engines import Engine
from tests.support.handmade_image import FRAGMENT, HandmadeImage, docker_archive
from tests.support.images import import_image
from tests.support.loader_server import REPOSITORY, run_loader
from tests.support.processes import clean_env

pytest_plugins = ("tests.support.unlock_fixtures",)


def test_only_the_owner_can_read_a_new_key_and_it_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "fragment.key"
    done = run_loader(tmp_path, "key", "new", "-o", str(path))
    assert done.returncode == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    fragment = path.read_bytes()
    assert len(fragment) == 32
    assert fragment.hex() not in done.stdout

    assert_refused(invoke("key", "new", "-o", path), "STORAGE_ERROR", 8)
    assert path.read_bytes() == fragment


def test_two_images_are_packed_shown_and_verified(docker: Engine, key: Path, output: Path) -> None:
    ids = [import_image(docker, APP, random_mib=1), import_image(docker, DATABASE)]
    arguments = ("images", "pack", APP, DATABASE, "--version", "1.4", "--key", key, "-o", output)
    result = invoke(*arguments, engine=docker.host)
    assert result.exit_code == 0, result.output
    assert f"{output}: {size_text(output.stat().st_size)}\n" in result.stdout
    shown = invoke("images", "show", output)
    verified = invoke("images", "verify", output, "--key", key)
    unproven = invoke("images", "verify", output)
    for told in (result, shown, verified, unproven):
        assert told.exit_code == 0
        assert told.stdout.startswith("release 1.4, serial ")
        for reference, image in zip((APP, DATABASE), ids, strict=True):
            assert f"  docker.io/{reference}  {PLATFORM}  {image}  1 layer, " in told.stdout
    assert f"{output}: authentic and undamaged" in verified.stdout
    assert "does not prove who made it" in unproven.stdout
    assert list(output.parent.iterdir()) == [output]


def test_the_description_is_one_json_document(packed: Packed) -> None:
    document = json.loads(invoke("images", "show", packed.path, "--json").stdout)
    assert document["size"] == packed.path.stat().st_size
    assert document["complete"] is True
    assert [image["reference"] for image in document["images"]] == [f"docker.io/{APP}", f"docker.io/{DATABASE}"]


def test_another_key_makes_a_head_or_a_whole_archive(packed: Packed, key: Path, tmp_path: Path) -> None:
    archive, other = tmp_path / "images.enc", tmp_path / "other.key"
    archive.write_bytes(packed.path.read_bytes())
    other.write_bytes(b"x" * 32)
    rewrap = ("images", "rewrap", archive, "--key", key, "--new-key", other)
    assert f"{tmp_path}/images.head: " in invoke(*rewrap).stdout
    assert "incomplete: it lacks" in invoke("images", "show", tmp_path / "images.head").stdout
    assert invoke(*rewrap, "-o", archive).exit_code == 0
    assert invoke("images", "verify", archive, "--key", other).exit_code == 0


def test_podman_packs_too(podman: Engine, key: Path, output: Path) -> None:
    import_image(podman, APP)
    result = invoke("images", "pack", APP, "--key", key, "-o", output, engine=podman.host)
    assert result.exit_code == 0, result.output
    assert invoke("images", "verify", output, "--key", key).exit_code == 0


def test_standard_input_is_packed_without_an_engine(packed: Packed, key: Path, output: Path, tmp_path: Path) -> None:
    command = (
        f"{sys.executable} -m loader images pack --from - --version 1 --key {key} -o {output} < {packed.plain_tar}"
    )
    subprocess.run(["bash", "-c", command], cwd=REPOSITORY, env=clean_env(tmp_path), check=True, capture_output=True)
    assert invoke("images", "verify", output, "--key", key).exit_code == 0


def test_a_tar_has_one_size(packed: Packed, key: Path, output: Path) -> None:
    """What is read has the size of the tar, and what is sealed that of the blobs; their sum is told nowhere."""
    size = packed.plain_tar.stat().st_size
    arguments = ("--from", packed.plain_tar, "--version", "1", "--compress", "none", "--key", key, "-o", output)
    lines = invoke("images", "pack", *arguments).stderr.splitlines()
    sealed = sum(blob.packed.size for blob in head_of(output).blobs)
    assert lines == [f"reading: {size_text(size)}", f"sealing: {size_text(sealed)}"]
    assert sealed <= size


def test_a_damaged_source_is_told_with_what_to_do(packed: Packed, key: Path, output: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.tar").write_bytes(packed.plain_tar.read_bytes()[:-20_000])
    result = invoke("images", "pack", "--from", tmp_path / "cut.tar", "--version", "1", "--key", key, "-o", output)
    assert result.exit_code == 4
    assert "(SOURCE_CORRUPT)\nWhat to do: " in result.stderr
    assert list(output.parent.iterdir()) == []


def test_an_output_never_replaces_what_the_command_reads_or_a_device(packed: Packed, key: Path, tmp_path: Path) -> None:
    source, pipe, new_key = tmp_path / "source.tar", tmp_path / "pipe", tmp_path / "new.key"
    source.write_bytes(packed.plain_tar.read_bytes())
    new_key.write_bytes(bytes(32))
    os.mkfifo(pipe)
    pack = ("images", "pack", "--from", source, "--version", "1", "--key", key, "-o")
    rewrap = ("images", "rewrap", packed.path, "--key", key, "--new-key", new_key, "-o")
    for command in [(*pack, place) for place in (key, source, pipe)] + [(*rewrap, place) for place in (key, new_key)]:
        assert invoke(*command).exit_code == 2, command
    assert (key.read_bytes(), new_key.read_bytes()) == (FRAGMENT, bytes(32))
    assert source.read_bytes() == packed.plain_tar.read_bytes()
    assert pipe.is_fifo()


@pytest.mark.parametrize("target", ["present", "absent"])
def test_a_symbolic_link_stays_and_its_target_is_replaced(
    target: str, packed: Packed, key: Path, output: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link.enc"
    link.symlink_to(output)
    if target == "present":
        output.write_bytes(b"old")
    pack = ("images", "pack", "--from", packed.plain_tar, "--version", "1", "--key", key, "-o", link)
    for command in (pack, ("images", "rewrap", link, "--key", key, "--new-key", key, "-o", link)):
        result = invoke(*command)
        assert result.exit_code == 0, result.output
        assert link.is_symlink()
        assert invoke("images", "verify", output, "--key", key).exit_code == 0
    assert list(output.parent.iterdir()) == [output]


def test_a_link_to_no_regular_file_or_to_what_is_read_is_refused(packed: Packed, key: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, target in (("to-pipe", "pipe"), ("to-key", key.name), ("to-itself", "to-itself"), ("to-folder", ".")):
        (tmp_path / name).symlink_to(target)
        result = invoke(
            "images", "pack", "--from", packed.plain_tar, "--version", "1", "--key", key, "-o", tmp_path / name
        )
        assert result.exit_code == 2, (name, result.output)
        assert (tmp_path / name).is_symlink()
    assert key.read_bytes() == FRAGMENT


def test_a_new_key_is_never_written_to_the_target_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    assert_refused(invoke("key", "new", "-o", tmp_path / "link"), "STORAGE_ERROR", 8)
    assert not (tmp_path / "absent").exists()


def test_a_malformed_version_is_told_before_the_source_is_read(key: Path, output: Path, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no tar")
    result = invoke("images", "pack", "--from", tmp_path / "x.tar", "--version", "", "--key", key, "-o", output)
    assert_refused(result, "VALIDATION_FAILED", 4)


def test_an_engine_that_goes_away_after_the_save_is_no_failure(
    docker: Engine, key: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_engine: DockerEngine) -> None:
        raise EngineUnavailable("The Docker engine does not respond.")

    import_image(docker, APP)
    # This stands for an engine that ends in the moment after its save.
    monkeypatch.setattr(DockerEngine, "describe", gone)
    result = invoke("images", "pack", APP, "--key", key, "-o", output, engine=docker.host)
    assert result.exit_code == 0, result.output
    assert invoke("images", "verify", output, "--key", key).exit_code == 0


@pytest.mark.parametrize("name", ["UPPER", f"{APP}@sha256:{'0' * 64}", "0" * 64, "a:b:c"])
def test_a_malformed_name_is_the_callers_error(name: str, key: Path, output: Path) -> None:
    assert_refused(invoke("images", "pack", name, "--key", key, "-o", output), "VALIDATION_FAILED", 4)


def test_different_tags_need_a_version_before_anything_is_saved(docker: Engine, key: Path, output: Path) -> None:
    import_image(docker, APP)
    import_image(docker, DATABASE)
    result = invoke("images", "pack", APP, DATABASE, "--key", key, "-o", output, engine=docker.host)
    assert result.exit_code == 4
    assert "say the version with --version. (VALIDATION_FAILED)" in result.stderr
    assert "reading" not in result.stderr


def test_an_image_of_another_platform_is_a_warning(docker: Engine, key: Path, output: Path) -> None:
    image = HandmadeImage(APP, architecture="s390x")
    list(docker.client.api.load_image(b"".join(docker_archive(image))))
    result = invoke("images", "pack", APP, "--key", key, "-o", output, engine=docker.host)
    assert result.exit_code == 0, result.output
    assert f"warning: docker.io/{APP} is linux/s390x, the engine is {PLATFORM}\n" in result.stderr


def test_an_image_that_is_named_twice_makes_a_good_archive(docker: Engine, key: Path, output: Path) -> None:
    import_image(docker, APP)
    assert invoke("images", "pack", APP, APP, "--key", key, "-o", output, engine=docker.host).exit_code == 0
    assert invoke("images", "verify", output, "--key", key).exit_code == 0


def test_a_missing_image_is_named(docker: Engine, key: Path, output: Path) -> None:
    result = invoke("images", "pack", f"{PREFIX}absent", "--key", key, "-o", output, engine=docker.host)
    assert result.exit_code == 4
    assert f"no image {PREFIX}absent:latest" in result.stderr
    assert list(output.parent.iterdir()) == []


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_an_engine_that_is_down_is_reported(key: Path, output: Path) -> None:
    assert_refused(invoke("images", "pack", APP, "--key", key, "-o", output), "ENGINE_UNAVAILABLE", 8)
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize("size", [31, 4097])
def test_a_key_file_of_a_wrong_size_is_refused(packed: Packed, tmp_path: Path, size: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(bytes(size))
    for arguments in (
        ("images", "verify", packed.path, "--key", path),
        ("images", "pack", APP, "--key", path, "-o", tmp_path / "images.enc"),
    ):
        result = invoke(*arguments)
        assert_refused(result, "KEY_MISMATCH", 7)
        assert f"it has {size} bytes" in result.stderr
    assert not (tmp_path / "images.enc").exists()


def test_a_wrong_key_and_damage_are_different_errors(packed: Packed, key: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    other.write_bytes(b"x" * 32)
    result = invoke("images", "verify", packed.path, "--key", other)
    assert (result.exit_code, result.stdout) == (7, "")
    assert result.stderr.endswith("(KEY_MISMATCH)\n")

    data = bytearray(packed.path.read_bytes())
    data[-1] ^= 1
    damaged = tmp_path / "damaged.enc"
    damaged.write_bytes(data)
    result = invoke("images", "verify", damaged, "--key", key)
    assert (result.exit_code, result.stdout) == (7, "")
    assert result.stderr.endswith("(ARCHIVE_CORRUPT)\n")
    # Without the key only what is readable can be judged.
    assert invoke("images", "show", damaged).exit_code == 0


def test_a_file_that_is_not_an_archive_is_refused(key: Path) -> None:
    assert_refused(invoke("images", "show", key), "ARCHIVE_CORRUPT", 7)
