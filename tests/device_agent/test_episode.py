"""Troubles that repeat are told once."""

from __future__ import annotations

import logging

import pytest

from device_agent.episode import Episode


def test_an_episode_is_told_when_it_begins_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    """Between the first trouble and enough quiet nothing is logged; the number of times is."""
    caplog.set_level(logging.INFO)
    episode = Episode(logging.getLogger("test"), "bad line", quiet=2)
    for trouble in (True, True, False, True, False, False, False, True, False, False):
        episode.trouble("noise") if trouble else episode.fine()
    assert [record.getMessage() for record in caplog.records] == [
        "bad line: noise",
        "bad line: 3 times in all, and over now",
        "bad line: noise",
    ]
    assert episode.total == 4
