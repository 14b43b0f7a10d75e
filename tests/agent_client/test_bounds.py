"""Bounds of what a server imposes on the agent: as properties, and against servers that ask for anything."""

from __future__ import annotations

import asyncio
import logging
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_client.bounds import (
    MAX_RETRY_MS,
    MAX_WINDOW,
    MIN_BATCH_BYTES,
    bounded_ending,
    bounded_welcome,
    parse_retry_after,
)
from agent_client.client import Client
from agent_client.endpoint import Endpoint, device_url
from agent_client.reconnect import MAX_DELAY_MS, Ending
from tests.agent_client.outbox import ListOutbox
from tests.device_agent.peer import Peer
from tests.tasks import running_task
from tests.wire import document
from wire import device, limits
from wire.errors import Code

NOW_NS = 1_767_225_600_000_000_000
NOW = datetime(2026, 1, 1, tzinfo=UTC)
YEAR_S = 31_536_000


@given(st.integers(1, 2**60), st.integers(1, 2**60), st.integers(0, 2**60))
def test_a_welcome_is_within_its_bounds_and_each_change_is_reported(window: int, size: int, retry_ms: int) -> None:
    """Values within the bounds stay as they are, without a word; others become the bound, with a sentence each."""
    welcome = device.Welcome("hub", 0, window, size, 0, retry_ms)
    bounded, sentences = bounded_welcome(welcome)
    assert 1 <= bounded.window <= MAX_WINDOW
    assert MIN_BATCH_BYTES <= bounded.max_batch_bytes <= limits.MAX_BATCH_BYTES
    assert 0 <= bounded.retry_ms <= MAX_DELAY_MS
    changed = [
        name for name in ("window", "max_batch_bytes", "retry_ms") if getattr(bounded, name) != getattr(welcome, name)
    ]
    assert [name for name in changed if any(name in sentence for sentence in sentences)] == changed
    assert len(sentences) == len(changed)
    assert bounded_welcome(bounded) == (bounded, [])


@given(st.none() | st.integers(0, 2**70))
def test_a_wait_is_ten_minutes_at_most(retry_ms: int | None) -> None:
    """A shorter one is kept, and none stays none."""
    ending, sentences = bounded_ending(Ending("busy", retry_ms=retry_ms))
    assert ending.retry_ms == (None if retry_ms is None else min(retry_ms, MAX_RETRY_MS))
    assert len(sentences) == (retry_ms is not None and retry_ms > MAX_RETRY_MS)


@pytest.mark.parametrize(
    ("text", "wait_ms"),
    [
        ("0", 0),
        ("120", 120_000),
        (" 7 ", 7000),
        ("007", 7000),
        (str(YEAR_S), YEAR_S * 1000),
        (format_datetime(NOW + timedelta(minutes=2), usegmt=True), 120_000),
        (format_datetime(NOW - timedelta(days=2), usegmt=True), 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 251_635_075_199_000),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("1e9", None),
        ("soon", None),
        ("٣", None),
        ("Fri, 99 Dec 2026 23:59:59 GMT", None),
    ],
)
def test_a_retry_after_is_seconds_or_a_date(text: str, wait_ms: int | None) -> None:
    """RFC 9110, 10.2.3. A past date asks for no wait, and anything else is no such header."""
    assert parse_retry_after(text, NOW_NS) == wait_ms


@given(st.text(max_size=40) | st.from_regex(r"[0-9]{1,400}", fullmatch=True))
def test_any_text_is_a_wait_or_none(text: str) -> None:
    """Whatever a server sends raises nothing and is never negative."""
    wait_ms = parse_retry_after(text, NOW_NS)
    assert wait_ms is None or wait_ms >= 0


def test_the_bounds_are_documented() -> None:
    """The table of the protocol page has the numbers of the code."""
    rows = {row[0]: row[1] for row in document.rows(document.section("## Bounds of an agent"))}
    assert rows["`retry_ms` of an error, `Retry-After`"] == f"{MAX_RETRY_MS // 60_000} minutes"
    assert rows["`retry_ms` of the welcome"] == f"100 ms to {MAX_DELAY_MS // 1000} s"
    assert rows["`window`"] == f"{MAX_WINDOW:,}"
    assert rows["`max_batch_bytes`"] == f"{MIN_BATCH_BYTES:,} to {limits.MAX_BATCH_BYTES:,}"


async def first_wait(peer: Peer, outbox: ListOutbox) -> float:
    """Run a client until it waits before its next attempt; return the announced seconds."""
    waits: asyncio.Queue[float] = asyncio.Queue()
    client = Client(
        Endpoint(device_url(peer.url)), outbox, "test", on_wait=lambda ending, delay_s, _: waits.put_nowait(delay_s)
    )
    async with running_task(client.run()):
        return await waits.get()


@pytest.mark.parametrize("status", [HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE])
@pytest.mark.parametrize(
    ("retry_after", "least_s", "most_s"),
    [
        (str(YEAR_S), 600, 601),
        ("9" * 300, 600, 601),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 600, 601),
        ("3", 3, 4),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 1),
        ("-1", 0, 1),
        ("later", 0, 1),
    ],
)
async def test_a_refusal_cannot_silence_the_agent(
    status: HTTPStatus, retry_after: str, least_s: float, most_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    """A year becomes ten minutes, with a line of log; nonsense is the usual delay, without one."""
    async with Peer() as peer:
        peer.refusal = status, {"Retry-After": retry_after}
        assert least_s <= await first_wait(peer, ListOutbox()) <= most_s
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == (least_s == 600)
    assert all(
        re.fullmatch(r"the server asked for a wait of [\d,]+ s; the agent waits 600 s, its bound", w) for w in warnings
    )


async def test_an_error_cannot_silence_the_agent() -> None:
    """The wait in an error message has the same bound."""
    async with Peer() as peer:
        peer.greeting = device.Error(Code.BUSY, "later", retry_ms=YEAR_S * 1000)
        assert 600 <= await first_wait(peer, ListOutbox()) <= 601


async def test_a_hostile_welcome_neither_stops_nor_floods_the_agent(caplog: pytest.LogCaptureFixture) -> None:
    """A window of billions, frames of one byte and a wait of a year: the batches arrive, and each bound is logged."""
    async with Peer(window=10**9, max_batch_bytes=1, retry_ms=YEAR_S * 1000) as peer:
        peer.is_strict = False
        outbox = ListOutbox()
        await outbox.add(1, 2, 3)
        client = Client(Endpoint(device_url(peer.url)), outbox, "test")
        async with running_task(client.run()):
            await outbox.until_acked(3)
        assert outbox.session is not None
        assert (outbox.session.window, outbox.session.max_batch_bytes) == (MAX_WINDOW, MIN_BATCH_BYTES)
    assert [record.getMessage().split()[3] for record in caplog.records if record.levelno == logging.WARNING] == [
        "window",
        "max_batch_bytes",
        "retry_ms",
    ]
