"""The version, in its one place: packaging, the interface and the command line read it here."""

from __future__ import annotations

VERSION = "0.1.0"
