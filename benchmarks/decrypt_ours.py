"""`python -m benchmarks.decrypt_ours ARCHIVE KEY`: write the tar of an archive to stdout, by the loader's code.

Nothing is written of a segment before its tag has verified.
"""

from __future__ import annotations

import sys
from pathlib import Path

from loader.binary_split import open_archive


def main(archive_path: Path, key_path: Path) -> None:
    """Decrypt the archive. Ends with an exception if anything does not authenticate."""
    fragment = key_path.read_bytes()
    with open_archive(archive_path) as archive, open(1, "wb", buffering=0, closefd=False) as output:
        archive.require_fragment(fragment)
        for segment in archive.plaintext(fragment, lambda: None):
            output.write(segment)


main(Path(sys.argv[1]), Path(sys.argv[2]))
