"""Images with any configuration."""

from __future__ import annotations

import json
from typing import Any

from tests.support.archives import PREFIX
from tests.support.handmade_image import HandmadeImage, HandmadeLayer

LAYER = HandmadeLayer(b"layer", 3)
GOOD = HandmadeImage(f"{PREFIX}good:1", (LAYER,))


class Configured(HandmadeImage):
    """An image whose configuration has `settings` as fields of its own, and not in its part `config`."""

    @property
    def config(self) -> bytes:
        """The configuration of the image."""
        document = json.loads(HandmadeImage(self.reference, self.layers).config)
        return json.dumps(document | self.settings).encode()


def configured(**fields: Any) -> Configured:
    return Configured(f"{PREFIX}bad:1", (LAYER,), fields)
