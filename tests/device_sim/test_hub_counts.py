from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from device_sim import hub_counts
from device_sim.hub_counts import (
    HubCountsError,
    HubDeviceCounts,
    difference,
    flow_url,
    read_hub_counts,
    settled_hub_counts,
)
from device_sim.report import HubCounts


@contextmanager
def hub_that_says(answers: Sequence[object]) -> Iterator[str]:
    """A hub's flow endpoint that gives these answers in turn, the last one again and again."""
    left = list(answers)

    class Flow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = left.pop(0) if len(left) > 1 else left[0]
            allowed = self.path == "/api/v1/flow" and self.headers["Authorization"] == "Bearer secret"
            self.send_response(200 if allowed else 401)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            """Tests are silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Flow) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def flow(*devices: dict[str, object]) -> dict[str, object]:
    return {"journal": {"id": "j", "last_offset": 9}, "consumers": [], "totals": {}, "devices": list(devices)}


@pytest.mark.parametrize(
    ("hub", "url"),
    [
        ("http://127.0.0.1:8600", "http://127.0.0.1:8600/api/v1/flow"),
        ("ws://127.0.0.1:8600/v1/device", "http://127.0.0.1:8600/api/v1/flow"),
        ("wss://hub.example/plant/", "https://hub.example/plant/api/v1/flow"),
        ("https://hub.example/plant/v1/device", "https://hub.example/plant/api/v1/flow"),
    ],
)
def test_the_books_are_beside_the_device_endpoint(hub: str, url: str) -> None:
    """Whatever form of the hub's address was given to the agents leads to its API."""
    assert flow_url(hub) == url


async def test_only_the_asked_devices_are_read() -> None:
    """Other devices of the hub, and fields that are new, do not disturb."""
    answer = flow({"device": "a", "accepted": 5, "stored": 4, "new": 1}, {"device": "b", "accepted": 1, "stored": 1})
    with hub_that_says([answer]) as url:
        assert await read_hub_counts(url, "secret", ["a", "c"]) == {"a": HubDeviceCounts("a", 5, 4)}


async def test_a_hub_that_rejects_or_is_gone_raises_one_error() -> None:
    """The report can say why the books are not known."""
    with hub_that_says([flow()]) as url, pytest.raises(HubCountsError, match="could not be read"):
        await read_hub_counts(url, "wrong", [])
    with pytest.raises(HubCountsError, match="refused"):
        await read_hub_counts(url, "secret", [])
    with hub_that_says([flow({"device": "a", "stored": None})]) as url, pytest.raises(HubCountsError, match="store"):
        await read_hub_counts(url, "secret", ["a"])
    with hub_that_says([["nonsense"]]) as url, pytest.raises(HubCountsError, match="could not be read"):
        await read_hub_counts(url, "secret", [])


def test_totals_since_ever_become_those_of_the_run() -> None:
    """Counts from before the run are subtracted, also for a new device."""
    before = {"a": HubDeviceCounts("a", 100, 90, 1, 2, 3)}
    after = {"a": HubDeviceCounts("a", 150, 150, 3, 2, 7), "b": HubDeviceCounts("b", 10, 12, 0, 1, 0)}
    assert difference(before, after) == HubCounts(60, 72, 12, 2, 1, 4)
    assert difference(before, {}) == HubCounts(0, 0, 0, 0, 0, 0)


def test_one_devices_surplus_does_not_hide_anothers_loss() -> None:
    """Duplicates are counted device by device."""
    after = {"a": HubDeviceCounts("a", accepted=10, stored=5), "b": HubDeviceCounts("b", accepted=10, stored=15)}
    assert difference({}, after).duplicated == 5


async def test_the_store_is_waited_for() -> None:
    """CountsByDevice are read again until the store holds everything that was acknowledged."""
    answers = [flow({"device": "a", "accepted": n, "stored": s}) for n, s in ((0, 0), (5, 2), (9, 7), (9, 9))]
    with hub_that_says(answers) as url:
        settled = await settled_hub_counts(url, "secret", {}, ["a"], acked=9)
    assert (settled.accepted, settled.stored) == (9, 9)


async def test_a_store_that_does_not_catch_up_is_reported_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the bound the books are taken as they are."""
    monkeypatch.setattr(hub_counts, "SETTLE_SECONDS", 0.0)
    with hub_that_says([flow({"device": "a", "accepted": 9, "stored": 3})]) as url:
        settled = await settled_hub_counts(url, "secret", {}, ["a"], acked=9)
    assert settled.stored == 3
