"""Checks of a port: the lines of a real tty, read as the agent reads them, and stored nowhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent_client.trial import InputUnreadable
from device_agent.sources.lines import LOST_LINES
from device_agent.sources.ports import PortSettings
from device_agent.trial import PortTrial, try_port
from formats.reading import unknown_format
from formats.record import TextFrame
from tests.conditions import until
from tests.device_agent.foreign import foreign_input
from tests.device_agent.pty_port import PtyPort


async def test_a_port_is_read_and_reported(tmp_path: Path) -> None:
    """Its readings and refusals are in the report, with the settings; lines that wait are read at the end."""
    port = PtyPort(tmp_path / "sensor")
    port.plug_in()
    input = foreign_input()
    trying = asyncio.create_task(try_port(input, PortSettings(port=str(port.path)), seconds=600))
    # Opening a port discards what was written before.
    while not input.counts.readings:
        await port.write(b"temp=1 hum=2\n")
        await asyncio.sleep(0.02)
    await port.write(b"temp=21.5 hum=40\ntemp=high hum=41\n")
    await until(lambda: input.counts.refused)
    trying.cancel()
    trial = await trying
    port.pull()
    text = trial.text()
    assert "format    pairs: " in text
    assert trial.refused.total() == 1
    assert "temp: high is not a number" in text
    assert input.counts.skipped == 1


async def test_a_port_that_cannot_be_opened_ends_the_check(tmp_path: Path) -> None:
    """It does not wait for the port, as the agent does."""
    with pytest.raises(InputUnreadable, match="the port does not exist"):
        await try_port(foreign_input(), PortSettings(port=str(tmp_path / "none")), seconds=600)


def test_a_format_that_is_detected_again_begins_another_report() -> None:
    """A line that was refused before the first format belongs to the first report."""
    input = foreign_input()
    report = PortTrial(input)
    input.refuse(unknown_format(TextFrame(1, b"noise")))
    for format, lines in (("json", b'{"t":1}'), ("pairs", b"t=1")):
        reading = input.new_reading(window=1)
        assert reading.begin([lines])
        for _ in range(LOST_LINES):
            input.count(reading, lambda: reading.message(lines, 0))  # noqa: B023
        facts = report.trial.facts()
        assert (facts["format"], facts["readings"], report.trial.refused.total()) == (
            format,
            LOST_LINES,
            int(format == "json"),
        )
