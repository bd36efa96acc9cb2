"""A process that packs and verifies standard input, and prints by how many bytes its memory has grown."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from loader.packing.pack import Wishes, pack
from loader.packing.sources import STANDARD_INPUT, TarSource
from loader.packing.verify import verify
from tests.packing.packs import unwatched
from tests.support.handmade_image import FRAGMENT
from tests.support.procfs import peak_rss_bytes, rss_bytes


def main(codec: str, output: Path) -> None:
    """Print the growth since all modules were imported."""
    before = rss_bytes(os.getpid())
    pack(TarSource(STANDARD_INPUT, [], None), Wishes(codec=codec), FRAGMENT, output, unwatched)
    verify(output, FRAGMENT, unwatched)
    print(peak_rss_bytes(os.getpid()) - before)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
