"""Texts for people that the hub and its clients have in common. Pure."""

from __future__ import annotations


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: `1 batch`, `2,000 batches`. Without `many`, the plural has an s."""
    return f"{count:,} {one if abs(count) == 1 else many or f'{one}s'}"


def batches(first: int, last: int) -> str:
    """Return the name of a range of batches: `batch 7`, `batches 7 to 9`."""
    return f"batch {first}" if first == last else f"batches {first} to {last}"
