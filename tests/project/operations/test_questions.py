"""The commands of docs/operations.md: all of them are found, and the questions of an operator have one each."""

from __future__ import annotations

import re

import pytest

from tests.project.operations.shell_blocks import shell_blocks
from tests.project.operations.stages import STAGES
from tests.support.loader_server import REPOSITORY

DOCUMENT = (REPOSITORY / "docs" / "operations.md").read_text()
BLOCKS = shell_blocks(DOCUMENT)


def test_every_stage_belongs_to_a_section() -> None:
    assert set(STAGES) - set(BLOCKS) == set()


def test_there_are_thirty_questions() -> None:
    section = DOCUMENT.partition("\n## Questions and their commands\n")[2].partition("\n## ")[0]
    questions = re.findall(r"^### (.+\?)$", section, re.MULTILINE)
    assert len(questions) >= 30
    assert [question for question in questions if question not in BLOCKS] == []


@pytest.mark.parametrize("language", ["", "sh"])
def test_commands_are_found_below_their_headings(language: str) -> None:
    text = f"## One\n\n```{language}\na \\\n  b\n```\n\n### Two\n```nginx\n# no\n```\n"
    text += f"```{language}\n$ c\nshown\n$ d\n```\n"
    assert shell_blocks(text) == {"One": ["a \\\n  b"], "Two": ["c\nd"]}


@pytest.mark.parametrize("text", ["## A\n```python\nx\n```\n", "## A\n```\nx\n```\n## B\n## A\n```\ny\n```\n"])
def test_commands_that_nobody_would_run_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="A"):
        shell_blocks(text)
