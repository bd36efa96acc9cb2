"""Images that several tests pack."""

from __future__ import annotations

import random

from tests.support.handmade_image import HandmadeImage, HandmadeLayer

MIB = 1 << 20
NOISE = random.Random(1).randbytes(MIB)  # noqa: S311  every run needs the same bytes
SOFT = HandmadeLayer(b"soft " * 1000, 300, "soft")
HARD = HandmadeLayer(NOISE, 2, "hard")
APP = HandmadeImage("pack/app:1.4", (SOFT, HARD))
DATABASE = HandmadeImage("registry:5000/database:1.4", (SOFT,))
ARM = HandmadeImage("pack/app:1.4", (HARD,), architecture="arm64")
