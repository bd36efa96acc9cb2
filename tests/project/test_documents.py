"""The documents: every link, file and `make` command that they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.project.documents import anchors, broken_links, links, modules, paths_below, python_files
from tests.project.test_architecture import LAYERS

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
# Documents may name a file as the map does, without `loader/` in front.
PLACES = (ROOT, ROOT / "loader")
FOLDERS = ("loader", "resource_api", "tests", "tools", "benchmarks", "docs", "deploy")
# The operator writes it.
NOT_IN_THE_REPOSITORY = {"deploy/.env"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    assert [*broken_links(document)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_python_file_that_a_document_names_exists(document: Path) -> None:
    named = python_files(document.read_text())
    assert [name for name in named if not any((place / name).is_file() for place in PLACES)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_and_module_in_a_command_exists(document: Path) -> None:
    text = document.read_text()
    named = [*paths_below(FOLDERS, text), *(module.replace(".", "/") for module in modules(text))]
    assert {path for path in named if not exists(path)} - NOT_IN_THE_REPOSITORY == set()


def exists(path: str) -> bool:
    """Return whether the repository has this file, folder or module."""
    return (ROOT / path).exists() or (ROOT / f"{path}.py").is_file()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_command_that_a_document_names_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)(?:[A-Z_]+=\S+ )*make ([a-z0-9-]+)", document.read_text(), re.MULTILINE))
    assert named - targets == set()


def test_the_layers_in_the_document_are_those_of_the_architecture() -> None:
    rows = re.findall(r"^\| (\d) \| (`.*`) \|$", (ROOT / "docs" / "developing.md").read_text(), re.MULTILINE)
    documented = {int(number): {module_of(path) for path in re.findall(r"`(.+?)`", cell)} for number, cell in rows}
    assert documented == dict(enumerate(LAYERS, start=1))


def module_of(path: str) -> str:
    """Return the name that a layer has for `web/`, `server/wsgi.py` or `__init__.py`."""
    return path.rstrip("/").removesuffix(".py").removesuffix("__init__").replace("/", ".")


@pytest.mark.parametrize(
    "link",
    [
        "absent.md",
        "absent/",
        "other.md#absent",
        "#absent",
        "other.md#Two-Words",
        "other.md#in-code",
        "other.md#same-2",
        "other.txt#two-words",
        "absent%20file.md",
    ],
)
def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, link: str) -> None:
    write_other_documents(tmp_path)
    document = tmp_path / "document.md"
    document.write_text(f'# Here\n\nSee [this]({link}), [that](other.md) and <img src="{link}" alt="">.\n')
    assert [*broken_links(document)] == [link, link]


@pytest.mark.parametrize(
    "link",
    [
        "other.md",
        "folder",
        "folder/inner.md",
        "#here",
        "other.md#two-words",
        "other.md#get-health-and-a-link",
        "other.md#same",
        "other.md#same-1",
        "other.md#snake_case--and-dash",
        "with%20space.md",
        "https://example.com/absent#absent",
        "mailto:op@example.com",
    ],
)
def test_a_link_that_leads_somewhere_is_accepted(tmp_path: Path, link: str) -> None:
    write_other_documents(tmp_path)
    document = tmp_path / "document.md"
    document.write_text(f"# Here\n\n[this]({link})\n")
    assert [*broken_links(document)] == []


def write_other_documents(directory: Path) -> None:
    (directory / "folder").mkdir()
    (directory / "folder" / "inner.md").write_text("")
    (directory / "with space.md").write_text("")
    (directory / "other.txt").write_text("# Two words\n")
    (directory / "other.md").write_text(
        "# Two words\n\n## `GET /health`, and a [link](x.md)!\n\n```\n# in code\n```\n\n"
        "## Same\n\n## Same\n\n## snake_case & (and) dash\n"
    )


def test_links_in_code_are_no_links() -> None:
    assert links("`[a](b.md)` and\n\n```\n[c](d.md)\n```\n\n[e](f.md)") == ["f.md"]


def test_anchors_follow_the_rules_of_github() -> None:
    assert anchors("# A: b, c\n\n### TLS to the API\n\ntext\n\n## A b-c ##\n") == {"a-b-c", "tls-to-the-api", "a-b-c-1"}


def test_python_files_are_found_in_code_only() -> None:
    assert python_files("`web/guard.py` and `app.py`, not guard.py nor `make`\n\n```\n`x.py`\n```\n") == [
        "web/guard.py",
        "app.py",
    ]


def test_paths_and_modules_are_found_in_commands() -> None:
    text = "`pytest tests/web tests/a.py -k x`, docs/cli.md. /opt/tests/b http://x/docs/c\n python -m tools.absent\n"
    assert paths_below(FOLDERS, text) == ["tests/web", "tests/a.py", "docs/cli.md"]
    assert modules(text) == ["tools.absent"]
    assert [exists(path) for path in ("tests/web", "tests/a.py", "docs/cli.md", "tools/absent", "tools/audit")] == [
        *(True, False, True, False, True)
    ]
