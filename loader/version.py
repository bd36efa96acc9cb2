"""The version of the loader, which the package, the HTTP interface and the command line read from here."""

from __future__ import annotations

VERSION = "0.2.0"
