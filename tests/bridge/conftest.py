"""Slow preparations, made once for all tests of students in other processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.languages import installed_node_student


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the TypeScript student and its packages. Tests that use it are skipped where there is no npm."""
    return installed_node_student(tmp_path_factory.mktemp("node"))
