"""Optional dependencies, imported where they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from simba_actors.errors import MissingExtraError


def import_extra(module: str, *, extra: str, user: str) -> Any:
    """Return `module`, which the extra `extra` installs.

        pandas = import_extra("pandas", extra="dataframe", user="to_dataframe")

    Raises:
        MissingExtraError: It is not installed. The message says what `user` needs and how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(f"{user} needs {package}: pip install 'simba_actors[{extra}]'") from error
