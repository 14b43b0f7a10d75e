"""Which series a subscription means: names, with `*` for any run of characters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from hub.contract.batch import Series

Selection = tuple[tuple[str, ...], tuple[str, ...]]
"""(device selectors, metric selectors), each sorted: the same selection is the same value."""


def selection(devices: Iterable[str], metrics: Iterable[str]) -> Selection:
    """The selection of these selectors, whatever their order."""
    return tuple(sorted(set(devices))), tuple(sorted(set(metrics)))


def matcher(selectors: Sequence[str]) -> Callable[[str], bool]:
    """Whether a name is selected; one regular expression or one set, however many selectors there are."""
    if "*" in selectors:
        return lambda name: True
    exact = frozenset(s for s in selectors if "*" not in s)
    patterns = [".*".join(map(re.escape, s.split("*"))) for s in selectors if "*" in s]
    if not patterns:
        return exact.__contains__
    match = re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.DOTALL).fullmatch
    return lambda name: name in exact or match(name) is not None


def matches(selection: Selection) -> Callable[[Series], bool]:
    """Whether a series is selected."""
    device, metric = matcher(selection[0]), matcher(selection[1])
    return lambda series: device(series.device) and metric(series.metric)
