"""Selection of series by device and metric names, and of devices by ids and tags. `*` is any run of characters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from hub.model.batch import Series

Selection = tuple[tuple[str, ...], tuple[str, ...]]
"""(device selectors, metric selectors), each sorted, so that equal selections are equal values."""


def selection(devices: Iterable[str], metrics: Iterable[str]) -> Selection:
    """Return the selection of these selectors, in any order."""
    return tuple(sorted(set(devices))), tuple(sorted(set(metrics)))


def matcher(selectors: Sequence[str]) -> Callable[[str], bool]:
    """Return a function that says whether a name matches any of these selectors.

    A selector with stars costs one pass over the name: selectors come from outside, and a regular expression made of
    them could keep the hub busy for hours.
    """
    if "*" in selectors:
        return lambda name: True
    exact = frozenset(s for s in selectors if "*" not in s)
    patterns = [_glob(s) for s in selectors if "*" in s]
    if not patterns:
        return exact.__contains__
    return lambda name: name in exact or any(pattern(name) for pattern in patterns)


def device_matcher(terms: Iterable[str]) -> Callable[[str, Mapping[str, str]], bool]:
    """Return a function that says whether a device with this id and these tags is selected.

    A term `KEY=VALUE` is a tag, any other a device id. A device is selected if one of the ids matches it (if there are
    any), and for each key one of its values.
    """
    ids: list[str] = []
    wanted: dict[str, list[str]] = {}
    for term in terms:
        key, is_tag, value = term.partition("=")
        if is_tag:
            wanted.setdefault(key, []).append(value)
        else:
            ids.append(term)
    is_id = matcher(ids or ["*"])
    values = {key: matcher(selectors) for key, selectors in wanted.items()}

    def is_selected(device: str, tags: Mapping[str, str]) -> bool:
        return is_id(device) and all(key in tags and is_value(tags[key]) for key, is_value in values.items())

    return is_selected


def _glob(selector: str) -> Callable[[str], bool]:
    first, *inner, last = selector.split("*")
    inner = [part for part in inner if part]

    def is_match(name: str) -> bool:
        at, end = len(first), len(name) - len(last)
        if at > end or not name.startswith(first) or not name.endswith(last):
            return False
        # The leftmost match of each part is the best: it leaves most of the name to the following parts.
        for part in inner:
            at = name.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True

    return is_match


def matches(selection: Selection) -> Callable[[Series], bool]:
    """Return a function that says whether a series is selected."""
    device, metric = matcher(selection[0]), matcher(selection[1])
    return lambda series: device(series.device) and metric(series.metric)
