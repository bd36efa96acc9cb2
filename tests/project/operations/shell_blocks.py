"""The shell commands of a document: what stands in its code blocks, by the heading above."""

from __future__ import annotations

import re
from collections import defaultdict

# Code blocks of these languages are no commands. One without a language is a shell's.
SHELL = ("", "sh")
OTHERS = ("ini", "json", "nginx", "promql", "text", "yaml")
_PART = re.compile(r"^#{2,4} +(?P<heading>[^\n]+)$|^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_TYPED = "$ "


def shell_blocks(document: str) -> dict[str, list[str]]:
    """Return the shell blocks below each heading, without the headings that have none.

    Of a block that shows a session only the lines after the prompt `$ ` count. Raises ValueError for a block of an
    unknown language, because it might be commands that nobody runs, and for two headings of one name with blocks.
    """
    found: dict[str, list[str]] = defaultdict(list)
    heading, ended = "", set[str]()
    for part in _PART.finditer(document):
        language = part["language"]
        if part["heading"]:
            ended.add(heading)
            heading = part["heading"]
        elif language in SHELL:
            if heading in ended:
                raise ValueError(f"there are two sections {heading!r}")
            found[heading].append(_commands(part["text"]))
        elif language not in OTHERS:
            raise ValueError(f"below {heading!r} is a block of the language {language!r}: neither shell nor known")
    return dict(found)


def _commands(text: str) -> str:
    typed = [line.removeprefix(_TYPED) for line in text.splitlines() if line.startswith(_TYPED)]
    return "\n".join(typed) if typed else text.rstrip("\n")
