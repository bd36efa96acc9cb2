"""The models of the soak: which contents of a name a load may return."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field

FOLDER = "soak"
SIZES = (0, 1_000, 65_480, 65_481, 1_500_000, 4_000_000)


@dataclass
class _Model:
    """The sizes of all versions so far, and the number of the last one that the loader has confirmed, or -1."""

    sizes: list[int] = field(default_factory=list)
    confirmed: int = -1


class Models:
    """Names of models with their versions. Threads may share it; each name is uploaded by one thread only."""

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self._lock = threading.Lock()

    def next_version(self, name: str, size: int) -> tuple[int, bytes]:
        """Return number and content, of `size` bytes, of a new version of `name`; from now on a load may return it."""
        with self._lock:
            model = self._models.setdefault(name, _Model())
            model.sizes.append(size)
            version = len(model.sizes) - 1
        return version, self._content(name, version)

    def confirm(self, name: str, version: int) -> None:
        """Note that the upload of `version` succeeded; a load that starts later must not return an older one."""
        with self._lock:
            self._models[name].confirmed = version

    def confirmed(self, name: str) -> int:
        """Return the number of the last version whose upload succeeded, or -1."""
        with self._lock:
            return self._models[name].confirmed

    def names(self) -> list[str]:
        """Return all names, also those whose first upload has not succeeded yet."""
        with self._lock:
            return sorted(self._models)

    def known(self, name: str, received: bytes, least: int, *, whole: bool) -> bool:
        """Return whether `received` is a version of `name` from number `least` on or, unless `whole`, its beginning."""
        with self._lock:
            count = len(self._models[name].sizes)
        contents = (self._content(name, version) for version in range(count - 1, max(0, least) - 1, -1))
        return any(content == received if whole else content.startswith(received) for content in contents)

    def _content(self, name: str, version: int) -> bytes:
        # Made again each time, because all versions of a long soak would take gigabytes of memory.
        chance = random.Random(f"{name} {version}")  # noqa: S311  # a test pattern
        return chance.randbytes(self._models[name].sizes[version])
