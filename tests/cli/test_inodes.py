"""The plan of the command line on a disk that is out of inodes."""

from __future__ import annotations

from pathlib import Path

from tests.cli.cli_runs import invoke
from tests.conftest import StartLoader
from tests.support.handmade_image import HandmadeImage, seal
from tests.support.small_disk import small_disk, use_inodes

MIB = 1 << 20


def test_the_plan_says_that_a_disk_is_out_of_inodes(tmp_path: Path, start_loader: StartLoader) -> None:
    with small_disk(tmp_path / "disk", 4 * MIB, inodes=10) as disk:
        archive = seal(disk / "images.enc", [HandmadeImage("app:1.4")])
        loader = start_loader(IMAGES_PATH=str(archive))
        use_inodes(disk)
        shown = invoke(loader.url, "unlock", "--plan").stdout
        loader.stop()
    assert " MB free: OUT OF INODES\n" in shown
