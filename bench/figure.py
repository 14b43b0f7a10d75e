"""Input and output of a benchmark row."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.hub_process import COMMAND


class Figure(msgspec.Struct, frozen=True):
    """One line of build/bench.json. `must` is the required bound, or null for a figure without one; `ok` says whether
    it holds."""

    name: str
    value: float
    unit: str
    must: float | None
    ok: bool


class Outcome(NamedTuple):
    """Figures of a row, and a description of the runs behind them."""

    figures: list[Figure]
    notes: list[str]


@dataclass
class Plan:
    """Cores, repeats and folders of this call. `achieved` holds the rate of each row for the rows that refer to it."""

    directory: Path
    hub_core: int
    load_core: int
    repeats: int
    scale: float
    launcher: Sequence[str] = COMMAND
    achieved: dict[str, float] = field(default_factory=dict)

    def data(self, key: str) -> Path:
        """Return an empty folder on a real disk for the hub of one row."""
        data = self.directory / key
        shutil.rmtree(data, ignore_errors=True)
        data.parent.mkdir(parents=True, exist_ok=True)
        return data


ReportProgress = Callable[[str, float], None]
"""Callback that receives the current step and the completed share."""


def at_least(name: str, value: float, unit: str, must: float | None) -> Figure:
    """Return a figure where more is better."""
    return Figure(name, round(value, 2), unit, must, must is None or value >= must)


def at_most(name: str, value: float, unit: str, must: float | None) -> Figure:
    """Return a figure where less is better."""
    return Figure(name, round(value, 2), unit, must, must is None or value <= must)
