"""Azaion Loader: turns what lies encrypted on an edge device into running containers and usable models."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from loader.settings import Settings


def create_app(settings: Settings) -> Flask:
    """The service, put together by `loader.app`. Imported here only: a command starts in a fifth of the time."""
    from loader import app

    return app.create_app(settings)
