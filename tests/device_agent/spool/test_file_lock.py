"""Locks of open files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent.spool.file_lock import try_lock


@pytest.fixture
def descriptors(tmp_path: Path) -> Iterator[list[int]]:
    path = tmp_path / "lock"
    opened = [os.open(path, os.O_RDWR | os.O_CREAT, 0o600) for _ in range(3)]
    yield opened
    for descriptor in opened:
        os.close(descriptor)


def test_one_has_the_lock_until_its_descriptor_is_closed(descriptors: list[int]) -> None:
    """Others can have it at once if it is shared."""
    first, second, third = descriptors
    assert try_lock(first)
    assert not try_lock(second)
    assert not try_lock(second, shared=True)
    os.close(descriptors.pop(0))
    assert try_lock(second, shared=True)
    assert try_lock(third, shared=True)
