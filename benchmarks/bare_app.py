"""The least that Flask can serve, to be held against the loader."""

from __future__ import annotations

from flask import Flask

app = Flask(__name__)


@app.get("/health")
def health() -> dict[str, str]:
    """Liveness, as the loader answers it."""
    return {"status": "healthy"}
