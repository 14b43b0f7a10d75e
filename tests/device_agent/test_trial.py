"""Checks of a port: the lines of a real tty, read as the agent reads them, and stored nowhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent_client.trial import InputUnreadable
from device_agent.sources.lines import LOST_LINES
from device_agent.sources.ports import PortSettings
from device_agent.sources.ports.baud import best_trial
from device_agent.trial import PortTrial, find_baud, try_port
from formats.reading import unknown_format
from formats.record import TextFrame
from tests.conditions import until
from tests.device_agent.foreign import foreign_input
from tests.device_agent.pty_port import PtyPort
from tests.device_agent.uart import send_forever
from tests.tasks import running_task


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


@pytest.mark.parametrize(("baud", "seven_even"), [(9600, False), (57_600, False), (9600, True)])
async def test_the_rate_of_a_device_is_found(tmp_path: Path, baud: int, seven_even: bool) -> None:
    """Each rate is read until its bytes decide; the port is opened once."""
    port = PtyPort(tmp_path / "sensor")
    port.plug_in()
    line = b'{"temperature": 21.5, "state": "on"}\n'
    settings = PortSettings(port=str(port.path))
    async with running_task(send_forever(port, line, baud, seven_even=seven_even)):
        trials = await find_baud(settings, foreign_input, seconds=30)
    port.pull()
    found = trials[-1]
    assert (found.baud, found.reads, found.format) == (baud, True, "json")
    assert found.evidence.frame == ("7E1" if seven_even else "")
    assert not any(trial.reads for trial in trials[:-1])
    assert best_trial(trials) == found


async def test_a_silent_device_has_no_rate(tmp_path: Path) -> None:
    """Two rates are enough to know, and a port that is absent is an error."""
    port = PtyPort(tmp_path / "sensor")
    with pytest.raises(InputUnreadable, match="does not exist"):
        await find_baud(PortSettings(port=str(port.path)), foreign_input, seconds=0.01)
    port.plug_in()
    trials = await find_baud(PortSettings(port=str(port.path)), foreign_input, seconds=0.01)
    port.pull()
    assert [trial.evidence.total for trial in trials] == [0, 0]
    assert best_trial(trials) is None


async def test_a_wrong_rate_ends_a_check_with_the_next_step(tmp_path: Path) -> None:
    """Instead of a report about lines that are none."""
    port = PtyPort(tmp_path / "sensor")
    port.plug_in()
    settings = PortSettings(port=str(port.path))
    async with running_task(send_forever(port, b'{"temperature": 21.5}\n', 9600)):
        with pytest.raises(InputUnreadable, match=r"baud rate 115,200 is probably wrong, .* --find-baud"):
            await try_port(foreign_input(), settings, seconds=0.5)
    port.pull()
