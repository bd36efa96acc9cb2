"""The unlock: from an encrypted archive, a login and a key fragment to images in the engine."""

from __future__ import annotations

from loader.unlock.run import _run_unlock, _unlock

__all__ = ["_run_unlock", "_unlock"]
