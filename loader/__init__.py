"""Azaion Loader: turns encrypted images and models on an edge device into running containers and usable models."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from loader.settings import Settings


def create_app(settings: Settings) -> Flask:
    """Return the service. Import `loader.app` only here, because commands start five times as fast without Flask."""
    from loader import app

    return app.create_app(settings)
