"""Two images that share their layers, of which one has more than 5 MiB."""

from __future__ import annotations

from tests.crypto.reference import pattern
from tests.support.handmade_image import HandmadeImage, HandmadeLayer

MIB = 1 << 20
LARGE = HandmadeLayer(pattern(MIB + 77), 5, name="large")
SMALL = HandmadeLayer(b"small", 3, name="small")
IMAGES = (
    HandmadeImage("registry.local:5000/app:1.4", (LARGE, SMALL)),
    HandmadeImage("database:9", (SMALL, LARGE, SMALL), {"Env": ["A=1"]}),
)
