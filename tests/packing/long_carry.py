"""A process that thins, joins and installs an archive, and prints by how many bytes its memory has grown."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from loader.binary_split import open_archive
from loader.install import install
from loader.packing.base import open_base
from loader.packing.thin import join, thin
from tests.packing.packs import unwatched
from tests.support.handmade_image import FRAGMENT
from tests.support.procfs import peak_rss_bytes, rss_bytes


def main(archive: Path) -> None:
    """Print the growth since all modules were imported. The thin archive lacks every blob."""
    before = rss_bytes(os.getpid())
    delta, whole = archive.with_name("delta.enc"), archive.with_name("whole.enc")
    thin(archive, archive, delta, unwatched)
    join(delta, archive, whole, unwatched)
    with open_base(whole, FRAGMENT) as base:
        version = base.archive.head.release.version
    install(delta, whole, version, unwatched)
    with open_archive(whole) as installed:
        installed.require_complete()
        assert installed.index.offsets == {}
    print(peak_rss_bytes(os.getpid()) - before)
    shutil.rmtree(whole.with_suffix(".blobs"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
