"""Refused lines and values: counted by reason, stored like a batch, and reported once."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent import Agent, agent
from device_agent.errors import ReadingError
from device_agent.refusals import RefusalTally, encode_report, is_report, report_frame
from formats.record import RefusalCode, RefusedInput
from tests.device_agent.batches import batch_of
from tests.device_agent.peer import Peer
from wire import device, limits
from wire.codec import AGENT_MESSAGES, Format

CODES = st.sampled_from(get_args(RefusalCode))
REFUSALS = st.builds(
    RefusedInput,
    line=st.just(1),
    raw=st.binary(max_size=2000),
    code=CODES,
    reason=st.text(max_size=600),
    metric=st.text(max_size=200),
    value=st.text(max_size=200),
    setting=st.text(max_size=300),
)
FORMATS: tuple[Format, Format] = ("json", "msgpack")


def refusal(code: RefusalCode = "type", raw: bytes = b"x") -> RefusedInput:
    return RefusedInput(1, raw, code, f"it is a {code}")


@given(st.lists(REFUSALS, min_size=1, max_size=8), st.sampled_from(FORMATS), st.sampled_from(FORMATS))
def test_a_report_is_a_message_whatever_was_refused(refusals: list[RefusedInput], stored: Format, sent: Format) -> None:
    """It has the counts and the first example of each reason, cut to the bounds, in the format of the connection."""
    tally = RefusalTally()
    tally.add(refusals, 5)
    report = tally.take("port")
    row = encode_report(report, stored)
    assert is_report(row)
    assert not is_report(batch_of(1))
    frame = report_frame(7, row, sent)
    message = AGENT_MESSAGES[sent].decode(frame)
    assert isinstance(message, device.Refused)
    assert (message.seq, message.source, message.count) == (7, "port", len(refusals))
    assert {reason.code for reason in message.reasons} == {refusal.code for refusal in refusals}
    assert len(frame) < limits.MAX_BATCH_BYTES
    assert tally.is_empty


def test_a_report_has_the_times_of_the_first_and_the_last() -> None:
    """A clock that was set back does not turn them round."""
    tally = RefusalTally()
    for now in (10, 30, 20):
        tally.add([refusal()], now)
    assert (report := tally.take("p")).from_time == 10
    assert report.to == 20
    tally.add([refusal()], 5)
    assert tally.take("p").from_time == 5


def test_a_report_that_was_not_stored_is_counted_again() -> None:
    """With what was refused meanwhile; the first example stays."""
    tally = RefusalTally()
    tally.add([refusal(raw=b"first"), refusal("syntax")], 1)
    report = tally.take("p")
    tally.add([refusal(raw=b"second"), refusal("time")], 2)
    tally.put_back(report)
    again = tally.take("p")
    assert {reason.code: reason.count for reason in again.reasons} == {"type": 2, "syntax": 1, "time": 1}
    assert (again.reasons[0].raw, again.from_time, again.to) == ("first", 1, 2)


def test_the_sentence_has_the_counts_and_examples() -> None:
    """It is cut to its bound."""
    tally = RefusalTally()
    tally.add([refusal()] * 1200 + [refusal("syntax")], 1)
    report = tally.take("/dev/ttyUSB0")
    assert report.sentence(500) == (
        "1,201 lines or values refused by /dev/ttyUSB0: type 1,200 (it is a type), syntax 1 (it is a syntax)"
    )
    assert len(report.sentence(50)) == 50


async def test_what_is_refused_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report has a number like a batch: it is sent again after a break, and counts once."""
    monkeypatch.setattr(agent, "REPORT_SECONDS", 0.01)
    async with Peer() as peer:
        peer.hold()
        async with Agent(peer.url, device="boiler", spool=tmp_path / "spool", drain_seconds=0) as sender:
            sender.refuse("port", [refusal(), refusal(raw=b"\xff"), refusal("syntax")])
            await peer.until(lambda: peer.received == 1)
            await peer.drop()
            await peer.until(lambda: peer.duplicates == 1 or len(peer.hellos) > 1)
            await sender.send({"n": 1})
            await peer.release()
            await sender.drain(10)
        (report,) = peer.reports()
        assert [(reason.code, reason.count, reason.raw) for reason in report.reasons] == [
            ("type", 2, "x"), ("syntax", 1, "x"),
        ]  # fmt: skip
        peer.check_order()


async def test_a_report_survives_a_restart(tmp_path: Path) -> None:
    """A report that was not sent is in the spool, and the last one is stored at the end of the agent."""
    async with Peer() as away:
        pass
    async with Agent(away.url, device="boiler", spool=tmp_path / "spool", drain_seconds=0) as sender:
        sender.refuse("port", [refusal()])
    async with Peer() as peer, Agent(peer.url, device="boiler", spool=tmp_path / "spool") as sender:
        await sender.drain(10)
    assert [report.count for report in peer.reports()] == [1]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_an_older_hub_gets_a_gap_with_the_reasons(version: Literal["1.0", "1.1"]) -> None:
    """It does not know the message."""
    async with Peer(version=version) as peer, Agent(peer.url, device="boiler") as sender:
        await sender.send({"n": 1})
        sender.refuse("port", [refusal()])
        await sender.send({"n": 2})
        await sender.drain(10)
    gaps = [entry.message for entry in peer.journal if isinstance(entry.message, device.Gap)]
    assert [gap.reason for gap in gaps] == ["1 line or value refused by port: type 1 (it is a type)"]
    assert peer.values("n") == [1, 2]
    peer.check_order()


async def test_an_event_is_delivered_once(tmp_path: Path) -> None:
    """It has a number like a batch, and waits in the spool while there is no hub."""
    async with Peer() as away:
        pass
    async with Agent(away.url, device="boiler", spool=tmp_path / "spool", drain_seconds=0) as sender:
        sender.report_event("restarted", "rst:0x1 (POWERON_RESET)\x1b[2J", source="port", time_ns=77)
        with pytest.raises(ReadingError, match="no kind of an event"):
            sender.report_event("Restarted!")
    async with Peer() as peer, Agent(peer.url, device="boiler", spool=tmp_path / "spool") as sender:
        peer.hold()
        await peer.until(lambda: peer.received == 1)
        await peer.drop()
        await peer.until(lambda: peer.duplicates == 1 or len(peer.hellos) > 1)
        await peer.release()
        sender.report_event("opened")
        await sender.drain(10)
    found = [entry.message for entry in peer.journal if isinstance(entry.message, device.DeviceEvent)]
    assert found[0] == device.DeviceEvent(1, 77, "restarted", "port", "rst:0x1 (POWERON_RESET)�[2J")
    assert [(event.seq, event.kind) for event in found] == [(1, "restarted"), (2, "opened")]
    peer.check_order()


@pytest.mark.parametrize("version", ["1.0", "1.2"])
async def test_an_older_hub_gets_a_gap_with_the_event(version: Literal["1.0", "1.2"]) -> None:
    """It does not know the message."""
    async with Peer(version=version) as peer, Agent(peer.url, device="boiler") as sender:
        sender.report_event("restarted", "the uptime fell", source="port")
        await sender.drain(10)
    (entry,) = peer.journal
    assert entry.message == device.Gap(1, 1, "restarted: port: the uptime fell")
    peer.check_order()


async def test_a_report_that_is_too_large_for_the_hub_is_a_gap() -> None:
    """Its counts are in the reason."""
    async with Peer(max_batch_bytes=1024) as peer, Agent(peer.url, device="boiler") as sender:
        sender.refuse("port", [refusal(code, b"x" * 4000) for code in get_args(RefusalCode)])
        await sender.drain(10)
    (entry,) = peer.journal
    assert isinstance(entry.message, device.Gap)
    assert entry.message.reason.startswith(f"{len(get_args(RefusalCode))} lines or values refused by port: ")


async def test_sources_beyond_the_bound_are_not_reported() -> None:
    """The first ones are, as with their states."""
    async with Peer() as peer, Agent(peer.url, device="boiler") as sender:
        for number in range(limits.MAX_SOURCES + 2):
            sender.refuse(f"port {number}", [refusal()])
        await sender.drain(10)
    assert len(peer.reports()) == limits.MAX_SOURCES
