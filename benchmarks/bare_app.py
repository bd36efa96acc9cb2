"""The smallest Flask application, which the benchmarks compare with the loader."""

from __future__ import annotations

from flask import Flask

app = Flask(__name__)


@app.get("/health")
def health() -> dict[str, str]:
    """Respond to a probe as the loader does."""
    return {"status": "healthy"}
