"""The formats that an export can have."""

from __future__ import annotations

from typing import Literal, TypeAlias

Format: TypeAlias = Literal["parquet", "csv", "line", "arrow"]

ENDINGS: dict[str, Format] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".line": "line",
    ".lp": "line",
    ".arrow": "arrow",
    ".arrows": "arrow",
}
"""What a file's name says of its format."""

TEXT_FORMATS = frozenset({"csv", "line"})
