"""What a row of the bench gives, and what it is given to measure with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.hub_process import COMMAND


class Figure(msgspec.Struct, frozen=True):
    """One line of build/bench.json. `must` is the bound, null for a figure that is only told; `ok`: it holds."""

    name: str
    value: float
    unit: str
    must: float | None
    ok: bool


class Outcome(NamedTuple):
    """What a row gives: its figures, and the runs behind them in words."""

    figures: list[Figure]
    notes: list[str]


@dataclass
class Plan:
    """How this call measures: on which cores, how often. `achieved` has each row's rate for those that refer to it."""

    directory: Path
    hub_core: int
    load_core: int
    repeats: int
    scale: float
    launcher: Sequence[str] = COMMAND
    achieved: dict[str, float] = field(default_factory=dict)

    def data(self, key: str) -> Path:
        """An empty place on a real disk for one row's hub."""
        data = self.directory / key
        shutil.rmtree(data, ignore_errors=True)
        data.parent.mkdir(parents=True, exist_ok=True)
        return data


Tell = Callable[[str, float], None]
"""Told what is under way and which share of it is done."""


def at_least(name: str, value: float, unit: str, must: float | None) -> Figure:
    """A figure where more is better."""
    return Figure(name, round(value, 2), unit, must, must is None or value >= must)


def at_most(name: str, value: float, unit: str, must: float | None) -> Figure:
    """A figure where less is better."""
    return Figure(name, round(value, 2), unit, must, must is None or value <= must)
