"""Markdown as GitHub reads it: headings and their anchors, links, and the paths that a text names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

_FENCE = re.compile(r"^(```+|~~~+).*?^\1[ ]*$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
_HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)
_LINK = re.compile(r"\]\(\s*<?([^\s)>]+)>?[^)]*\)|<(?:img|a)\s[^>]*?(?:src|href)=\"([^\"]+)\"")
_LINK_TEXT = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_PYTHON_FILE = re.compile(r"`((?:[\w.]+/)*\w+\.py)`")
_MODULE = re.compile(r"python -m ((?:\w+\.)*\w+)")


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings of `text`, by GitHub's rules.

    A heading becomes lower case; everything but letters, digits, `_`, `-` and spaces goes; spaces become `-`; a
    repeated anchor gets `-1`, `-2` and so on.
    """
    found: set[str] = set()
    repeated: Counter[str] = Counter()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        slug = re.sub(r"[^\w\- ]", "", _LINK_TEXT.sub(r"\1", heading).lower()).replace(" ", "-")
        found.add(f"{slug}-{repeated[slug]}" if repeated[slug] else slug)
        repeated[slug] += 1
    return found


def links(text: str) -> list[str]:
    """Return the targets of all links and pictures of `text`; what stands in code is no link."""
    return [first or second for first, second in _LINK.findall(_CODE.sub("", _FENCE.sub("", text)))]


def broken_links(document: Path) -> Iterator[str]:
    """Yield each link of `document` that leads to no file, or to no heading of a file. Other sites are not asked."""
    for link in links(document.read_text()):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / unquote(path) if path else document
        if not target.exists() or (anchor and (target.suffix != ".md" or anchor not in anchors(target.read_text()))):
            yield link


def python_files(text: str) -> list[str]:
    """Return the paths of Python files that `text` names in code, such as `web/guard.py`."""
    return _PYTHON_FILE.findall(_FENCE.sub("", text))


def paths_below(folders: Iterable[str], text: str) -> list[str]:
    """Return the paths that begin with one of `folders` and stand anywhere in `text`, also within a command."""
    return re.findall(rf"(?<![\w./:-])(?:{'|'.join(folders)})/[\w./-]*[\w/]", text)


def modules(text: str) -> list[str]:
    """Return the modules that `text` runs with `python -m`."""
    return _MODULE.findall(text)
