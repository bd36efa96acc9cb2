"""Every command of docs/operations.md, run as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.project.operations.field import Field
from tests.project.operations.shell_blocks import shell_blocks
from tests.project.operations.stages import STAGES, Stage
from tests.support.engines import Engine
from tests.support.loader_server import REPOSITORY

BLOCKS = shell_blocks((REPOSITORY / "docs" / "operations.md").read_text())


@pytest.fixture(scope="module")
def field(docker_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """The sites of the document. One section may leave them changed for the next."""
    running = Field(tmp_path_factory.mktemp("field"), docker_engine)
    yield running
    running.close()


@pytest.mark.parametrize("section", BLOCKS)
def test_the_commands_run_as_they_stand(section: str, field: Field) -> None:
    stage = STAGES.get(section, Stage())
    stage.prepare(field)
    printed = ""
    for block in BLOCKS[section]:
        done = field.sandbox.try_run(block, stdin=stage.typed)
        printed += done.stdout
        assert done.returncode in stage.codes, (block, done.returncode, done.stdout)
        if stage.checked:
            printed += field.sandbox.run(stage.checked)
    missing = [each for each in stage.output if not re.search(each, printed, re.MULTILINE)]
    assert not missing, printed
