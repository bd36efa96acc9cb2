"""The version; packaging, the HTTP interface and the command line read it here."""

from __future__ import annotations

VERSION = "0.1.0"
