"""The files and the time zone that settings of foreign data name."""

from __future__ import annotations

import tomllib
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from formats.custom import FunctionError, UserFunction, load_function
from formats.rules import RulesError


def load_user_function(path: Path | None) -> UserFunction | None:
    """Return the function of the user's Python file, which runs with all rights of this command; None without one.

    Raises RulesError.
    """
    if path is None:
        return None
    try:
        return load_function(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise RulesError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RulesError(f"{path} is not UTF-8: {error}") from None
    except FunctionError as error:
        raise RulesError(str(error)) from error


def zone_of(name: str) -> tzinfo:
    """Return the time zone with this name, UTC for none. Raises RulesError."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise RulesError(f"the time zone {name!r} is unknown; use a name like Europe/Berlin, or UTC") from None


def toml_fields(path: Path) -> dict[str, Any]:
    """Return the settings in a TOML file. Raises RulesError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RulesError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RulesError(f"{path} is not TOML: {error}") from None
