"""Live updates over a real socket: no reading is missed over reconnects and restarts, and a slow dashboard costs
little."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from device_agent import Agent
from tests.end_to_end.hub import Hub, running_hub
from tests.end_to_end.viewer import Viewer
from wire import live
from wire.limits import MIN_PERIOD_MS

DEVICE = "pump"
KEY = (DEVICE, "number")

WALL = 32
"""Charts of the dashboard that only exists to read nothing."""

READING_BYTES = 16
"""Bytes of a reading in a frame: its time and its value."""


async def stored(hub: Hub) -> list[tuple[float, float]]:
    answer = await hub.get("/api/v1/history", device=DEVICE, metric="number", points=0, **{"from": "0"})
    series = answer["series"][0]
    return [(time / 1_000_000, value) for time, value in zip(series["time_ns"], series["values"], strict=True)]


async def test_live_continues_history_without_hole_or_duplicate(tmp_path: Path) -> None:
    """Dashboards that subscribe with history while readings arrive hold each reading once, in order."""
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", DEVICE)
        async with Agent(hub.url, device=DEVICE, token=token) as agent, Viewer(hub.ws_url, await hub.admin()) as viewer:
            for number in range(300):
                await agent.send({"number": float(number)})
            await agent.drain(30)

            async def stream() -> None:
                for number in range(300, 900):
                    await agent.send({"number": float(number)})

            streaming = asyncio.create_task(stream())
            await viewer.subscribe(1, history=live.History(span_ms=3_600_000, points=4000))
            await viewer.live()
            await streaming
            await viewer.wait(lambda: len(viewer.points[KEY]) >= 900)
        await hub.settled()
        assert viewer.points[KEY] == await stored(hub)


async def test_a_dashboard_that_reconnects_receives_all_that_it_missed(tmp_path: Path) -> None:
    """With its cursor a dashboard continues after its own disconnects and after SIGKILL of the hub; nothing is sent
    twice."""
    hub = Hub(tmp_path / "data")
    await hub.start()
    token = await hub.token("device", "--device", DEVICE)
    async with Agent(hub.url, device=DEVICE, token=token) as agent:
        viewer = Viewer(hub.ws_url, await hub.admin())
        await viewer.connect()
        await viewer.subscribe(1)
        await viewer.live()
        number = 0
        for turn in range(6):
            for _ in range(50):
                await agent.send({"number": float(number)})
                number += 1
            await agent.drain(30)
            await viewer.disconnect()
            for _ in range(50):
                await agent.send({"number": float(number)})
                number += 1
            if turn % 2:
                await hub.kill()
                await hub.start()
            await agent.drain(30)
            await viewer.connect()
            await viewer.live()
        await viewer.wait(lambda: len(viewer.points[KEY]) >= number)
        await viewer.disconnect()
    await hub.settled()
    assert viewer.resets == []
    assert viewer.points[KEY] == await stored(hub)
    assert [value for _, value in viewer.points[KEY]] == [float(n) for n in range(number)]
    assert await hub.stop() == 0


async def test_a_cursor_of_another_journal_is_reset(tmp_path: Path) -> None:
    """A cursor that cannot be served is answered with a reset, and history follows."""
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", DEVICE)
        async with Agent(hub.url, device=DEVICE, token=token) as agent, Viewer(hub.ws_url, await hub.admin()) as viewer:
            await agent.send({"number": 1.0})
            await agent.drain(30)
            await hub.settled()
            await viewer.subscribe(
                1, cursor=live.Cursor("elsewhere", 5), history=live.History(span_ms=60_000, points=100)
            )
            await viewer.live()
            assert viewer.resets == ["other_journal"]
            assert [value for _, value in viewer.points[KEY]] == [1.0]


@pytest.mark.deadline(180)
async def test_a_dashboard_that_stops_reading_slows_no_other_and_gets_the_conflated_count(tmp_path: Path) -> None:
    """While two dashboards read nothing for 30 s of heavy data, another receives every reading. The hub keeps only a
    small part of what it would send them. Afterwards the slow dashboard receives the newest values and the count of
    conflated readings."""
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", DEVICE)
        admin = await hub.admin()
        async with (
            Agent(hub.url, device=DEVICE, token=token) as agent,
            Viewer(hub.ws_url, admin) as slow,
            Viewer(hub.ws_url, admin) as quick,
            Viewer(hub.ws_url, admin) as wall,
        ):
            for viewer in (slow, quick):
                await viewer.subscribe(1)
                await viewer.live()
            rows = 2_000
            total = 0

            async def burst() -> None:
                nonlocal total
                await agent.send_columns(
                    list(range(total + 1, total + 1 + rows)), {"number": [float(n) for n in range(total, total + rows)]}
                )
                total += rows
                await agent.drain(30)

            for _ in range(20):
                await burst()
            await quick.wait(lambda: len(quick.points[KEY]) >= total)
            await slow.wait(lambda: len(slow.points[KEY]) >= total)
            # Each period has frames of its own: this dashboard shares no waiting frame.
            for id in range(1, WALL + 1):
                await wall.subscribe(id, period_ms=MIN_PERIOD_MS + id)
                await wall.live(id)
            await wall.stop_reading()
            await slow.stop_reading()
            before, begun = hub.memory_bytes(), total
            begin = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() - begin < 30:
                await burst()
                await quick.wait(lambda: len(quick.points[KEY]) >= total)
            grown = hub.memory_bytes() - before
            unread = WALL * (total - begun) * READING_BYTES
            slow.resume_reading()
            await slow.wait(lambda: slow.session.subscriptions[1].conflated > 0)
            await burst()
            await quick.wait(lambda: len(quick.points[KEY]) >= total)
            await slow.wait(lambda: slow.points[KEY][-1] == quick.points[KEY][-1])
            conflated = slow.session.subscriptions[1].conflated
        assert len(quick.points[KEY]) == total
        assert conflated > 0
        # Each summary has one point, the newest, which is among those it counts.
        assert len(slow.points[KEY]) < total <= len(slow.points[KEY]) + conflated
        megabytes = f"{unread / 1e6:.0f} MB unread, the hub grew by {grown / 1e6:.0f} MB"
        print(f"{total} readings, {conflated} conflated; {megabytes}")
        assert grown < unread / 3
