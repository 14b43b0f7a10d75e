"""The past of a simulated device: readings of the hours before the run, an outage among them, and a late reading. Pure.

A device that the hub does not know yet gets a past, so that its first charts are full. The device's own model makes
the values, from the oldest time on, and continues with the live readings without a jump.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from random import Random
from typing import NamedTuple

from device_sim.profiles import Model
from wire.model import Value

PastRow = tuple[int, Mapping[str, Value]]
"""A time in nanoseconds and a value for each metric."""

MAX_PAST_S = 7 * 86_400.0

SPACING_S = ((900.0, 2.0), (3600.0, 4.0), (6 * 3600.0, 20.0))
"""(age, spacing): readings up to this age are this far apart. Charts of every range then have even intervals: the page
reduces long ranges, and takes an interval of more than four usual ones for a gap."""

OLD_SPACING_S = 90.0
OLD_ROWS = 960
"""Readings older than six hours are 90 s apart, and further for a past of more than a day: their number is bounded."""

OUTAGE_S = 45 * 60.0
"""Length of the time within the past in which the device was off. Only a past of at least twice the length has one."""

LOSS_S = (20.0, 35.0)
"""Bounds of the time before the run whose readings the device lost and declares lost."""

LOSS_REASON = "the spool was full (simulated)"

LATE_AGE_S = 150.0
"""Age of the reading that arrives late, at the start of the run."""

_LENGTH = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class SimulatedPast(NamedTuple):
    """Readings in order of time, and one that is to be sent later than the others; None where the past is short."""

    rows: list[PastRow]
    late: PastRow | None


def parse_length(text: str) -> float:
    """Return the length of a past in seconds. Raises ValueError."""
    match = _LENGTH.fullmatch(text)
    seconds = float(match.group(1)) * _UNITS_S[match.group(2)] if match else 0.0
    if not 0.0 < seconds <= MAX_PAST_S:
        raise ValueError(f"{text!r} is not the length of a past; use for example 24h, up to {MAX_PAST_S / 86_400:.0f}d")
    return seconds


def make_past(device: str, model: Model, *, end_ns: int, length_s: float) -> SimulatedPast:
    """Return the past of a device that begins to run at `end_ns`; the same for the same device, seed and time.

    The model is asked for every time of the past, so that it is ready for the run.
    """
    random = Random(f"past:{device}")
    loss_s = random.uniform(*LOSS_S)
    outage_from_s = random.uniform(0.25, 0.75) * length_s
    outage_to_s = outage_from_s - OUTAGE_S if length_s >= 2 * OUTAGE_S else outage_from_s
    rows: list[PastRow] = []
    late: PastRow | None = None
    for age_s in _ages(length_s):
        if age_s < loss_s:
            break
        time_ns = end_ns - round(age_s * 1e9)
        row = (time_ns, model.at(time_ns / 1e9))
        if late is None and age_s <= LATE_AGE_S:
            late = row
        elif not outage_to_s < age_s <= outage_from_s:
            rows.append(row)
    return SimulatedPast(rows, late)


def _ages(length_s: float) -> Iterator[float]:
    """Yield the ages of the readings, the oldest first, none of them 0."""
    old_s = max(OLD_SPACING_S, length_s / OLD_ROWS)
    ages = [0.0]
    while ages[-1] <= length_s:
        ages.append(ages[-1] + next((spacing_s for limit_s, spacing_s in SPACING_S if ages[-1] < limit_s), old_s))
    return reversed(ages[1:-1])
