"""The rooms of the package: imports point down only, and each room has one subject."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import simba_actors
from tests.support.languages import STUDENTS

PACKAGE = Path(simba_actors.__file__).parent

LAYERS = (
    {"errors", "class_help"},
    {"actors"},
    {"runtime", "transport"},
    {"search"},
    {"events"},
    {"dspy_compat"},
    {"programs"},
    {"store"},
    {"strategies"},
    {"lm"},
    {"evaluation"},
    {"publishing"},
    {"observe"},
    {"team"},
    {"live"},
    {"bridge"},
    {"config", "config_checks", "result", "status"},
    {"hosting"},
    {"optimizer", "teleprompter", "held_out", "estimate"},
    {"cli", "web"},
    {"__init__", "__main__"},
)
"""The rooms and the modules beside them, from the bottom to the top."""

HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}

FILES_PER_ROOM = 15
"""A room with more files probably has two subjects."""

LINES_PER_FILE = 500
"""A file with more lines probably has two subjects."""

LINES_PER_STUDENT = 200
"""A reference student with as many lines, comments included, is too long to be read in one go."""

INTERNALS = {
    "ACTIVE_CALL_ID",
    "IGNORED_CACHE_KEYS",
    "PreparedCall",
    "_Attempt",
    "_aattempt",
    "_account_failed_call",
    "_async_engine_spec",
    "_engine",
    "_engine_spec",
    "_hint_responses_api",
    "_input_keys",
    "_make_json_adapter_fallback",
    "error_boundary",
    "get_annotation_name",
    "get_dependency_versions",
    "simba_utils",
}
"""Members of DSPy beyond its documented API."""


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


@cache
def nodes_of(file: Path) -> tuple[ast.AST, ...]:
    """Return all nodes of a file's syntax tree."""
    return tuple(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


def imports_of_ours(file: Path) -> Iterator[str]:
    for node in nodes_of(file):
        match node:
            case ast.ImportFrom(module=str(module)) if module.startswith("simba_actors."):
                yield module
            case ast.Import(names=aliases):
                yield from (alias.name for alias in aliases if alias.name.startswith("simba_actors."))
            case _:
                pass


def names_in(file: Path) -> Iterator[str]:
    for node in nodes_of(file):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.alias(name=name):
                yield from name.split(".")
            case ast.ImportFrom(module=str(module)):
                yield from module.split(".")
            case ast.Constant(value=str(text)):
                yield text
            case _:
                pass


SOURCES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted({file.parent for file in SOURCES})


def test_every_room_has_its_place_in_the_layers() -> None:
    assert {room_of(file) for file in SOURCES} <= set(HEIGHT)


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(PACKAGE)))
def test_imports_point_down(room: Path) -> None:
    imports = [(file, name) for file in sorted(room.glob("*.py")) for name in imports_of_ours(file)]
    upward = [(file.name, name) for file, name in imports if HEIGHT[name.split(".")[1]] > HEIGHT[room_of(file)]]
    assert upward == []


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(PACKAGE)))
def test_a_room_has_few_files(room: Path) -> None:
    assert len(list(room.glob("*.py"))) <= FILES_PER_ROOM


def test_no_file_is_long() -> None:
    lines = {str(file.relative_to(PACKAGE)): len(file.read_text(encoding="utf-8").splitlines()) for file in SOURCES}
    assert {name: count for name, count in lines.items() if count > LINES_PER_FILE} == {}


@pytest.mark.parametrize("language", ["elixir", "python", "typescript"])
def test_a_reference_student_can_be_read_in_one_go(language: str) -> None:
    sources = [file for file in (STUDENTS / language).iterdir() if file.suffix in {".exs", ".py", ".ts"}]
    student = [file for file in sources if file.stem != "follower"]  # A program of its own.
    assert 0 < sum(len(file.read_text(encoding="utf-8").splitlines()) for file in student) < LINES_PER_STUDENT


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(PACKAGE)))
def test_internals_of_dspy_are_used_in_one_room(room: Path) -> None:
    files = [file for file in sorted(room.glob("*.py")) if room_of(file) != "dspy_compat"]
    assert {file.name: used for file in files if (used := INTERNALS & set(names_in(file)))} == {}


def test_the_map_for_contributors_names_every_room() -> None:
    shown = (PACKAGE.parent / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [room.name for room in ROOMS if room.parent == PACKAGE and f"`{room.name}/`" not in shown] == []
