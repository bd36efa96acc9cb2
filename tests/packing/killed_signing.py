"""A process that signs an archive again and again; each signing is killed one step later than the one before."""

from __future__ import annotations

import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

from loader.packing.sign import sign
from loader.packing.verify import read_index, verify
from tests.install.killed import STEPS, forked, stepping
from tests.packing.packs import unwatched
from tests.support.handmade_image import FRAGMENT
from tests.support.publishers import ANNA, BEN
from tests.support.thin_archives import release

OLD, NEW = 10, 11


def main(directory: Path) -> None:
    """Print as JSON what each kill left, `old` or `new`, and the steps of the signing that was not killed.

    Ends with an error unless the archive was whole each time, and the next signing left nothing else.
    """
    template = directory / "images.enc"
    assert forked(partial(prepare, template)) == 0
    left: list[str] = []
    while True:
        archive = directory / str(len(left)) / "images.enc"
        archive.parent.mkdir()
        shutil.copyfile(template, archive)
        if not os.WIFSIGNALED(forked(partial(die_signing, archive, len(left)))):
            break
        state = os.waitstatus_to_exitcode(forked(partial(look, archive, template)))
        assert state in (OLD, NEW), f"before step {len(left)} the archive is broken"
        left.append("old" if state == OLD else "new")
        assert forked(partial(finish, archive)) == 0, f"before step {len(left)}"
        shutil.rmtree(archive.parent)
    print(json.dumps({"left": left, "steps": json.loads((archive.parent / "steps.json").read_text())}))


def prepare(archive: Path) -> None:
    """Make an archive that Anna has signed."""
    sign(release(archive, 1), ANNA, unwatched)


def die_signing(archive: Path, step: int) -> None:
    """Sign as Ben, but die before the step of this number."""
    done: list[str] = []
    for name in STEPS:
        setattr(os, name, stepping(name, getattr(os, name), done, step))
    sign(archive, BEN, unwatched)
    (archive.parent / "steps.json").write_text(json.dumps(done))


def look(archive: Path, template: Path) -> int:
    """Return which archive is there; the new one is verified in full."""
    if archive.read_bytes() == template.read_bytes():
        return OLD
    verify(archive, FRAGMENT, unwatched)
    require_signers(archive)
    return NEW


def finish(archive: Path) -> None:
    """Sign as Ben once more; then there is nothing but the signed archive."""
    sign(archive, BEN, unwatched)
    require_signers(archive)
    # `listdir`, because the leftovers of a killed process are hidden files.
    assert os.listdir(archive.parent) == ["images.enc"]  # noqa: PTH208


def require_signers(archive: Path) -> None:
    """Require the signatures of Anna and of Ben."""
    assert [one.key for one in read_index(archive).seals.signatures] == [ANNA.public, BEN.public]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
