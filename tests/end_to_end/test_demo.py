"""`hub run --demo`: the first minute."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conditions import result_of
from tests.end_to_end.hub import Hub

HOUR_NS = 3_600 * 10**9


async def past_of(hub: Hub, device: str, metric: str, *, after_ns: int = 0) -> list[int]:
    """Return the times (ns) of the last day, once the device's past and a reading after `after_ns` are stored."""

    async def query() -> list[int] | None:
        answer = await hub.get("/api/v1/history", device=device, metric=metric, points=0, **{"from": "-25h"})
        series = answer["series"]
        times: list[int] = series[0]["time_ns"] if series else []
        return times if len(times) > 2000 and times[-1] > after_ns else None

    return await result_of(query)


@pytest.mark.deadline(180)
async def test_the_demo_prints_three_lines_and_shows_a_past_that_is_written_once(tmp_path: Path) -> None:
    """The terminal says what runs, where the page is and how to stop. Charts are full, with a gap and its reason."""
    hub = Hub(tmp_path / "data", options=("--demo",))
    await hub.start()
    try:
        await hub.line("press")
        running, page, stop = hub.output
        assert running == f"listening on {hub.url} with this computer's sensors and 20 simulated devices"
        assert re.fullmatch(rf"open {hub.url}/open/\w+ to sign in \(once, within 15 minutes\)", page)
        assert stop == "press Ctrl-C to stop"
        times = await past_of(hub, "weather-001", "temperature")
        assert time.time_ns() - times[0] > 23.5 * HOUR_NS
        assert sum(after - before > HOUR_NS / 2 for before, after in pairwise(times)) == 1
        events = await hub.get("/api/v1/devices/weather-001/events")
        assert any(event["kind"] == "gap" and "the spool was full" in event["detail"] for event in events["events"])
        assert await hub.stop() == 0
        assert "warning" not in hub.log()
        restarted_ns = time.time_ns()
        await hub.start()
        # A past precedes the readings of its run: it would be stored before the first of them.
        again = await past_of(hub, "weather-001", "temperature", after_ns=restarted_ns)
        assert len(again) - len(times) < 1000
        assert await hub.stop() == 0
    finally:
        await hub.kill()
