"""Row of line protocol: the same lines by HTTP to the hub and to InfluxDB 2.7, each alone on one core."""

from __future__ import annotations

import http.client
import random
import statistics
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from bench.figure import Outcome, Plan, ReportProgress, at_least
from bench.hub_process import running_hub
from bench.measure import Failure, wait_until_stored
from bench.stores import influxdb_bucket

HOSTS = 100
FIELDS = 8
LINES = 5_000
"""Lines of a request: the batch that InfluxDB's documentation recommends."""

CONNECTIONS = 2
"""While one request is answered, the next one arrives."""

MUST_RATIO = 1.5
TIMEOUT_S = 60.0
START_NS = 1_760_000_000_000_000_000
STEP_NS = 10_000_000


class Target(NamedTuple):
    """An address that takes lines, and the token."""

    url: str
    token: str
    org: str = "bench"
    bucket: str = "bench"


class LineProtocol(NamedTuple):
    """Requests of lines, as fast as they are answered with 204."""

    key: str
    name: str
    requests: int
    must: float | None

    def run(self, plan: Plan, report: ReportProgress) -> Outcome:
        """Measure both in turn, each time on a new server; the medians count."""
        bodies = requests_of(max(4, round(self.requests * plan.scale)))
        lines = len(bodies) * LINES
        ours: list[float] = []
        stored: list[float] = []
        theirs: list[float] = []
        for repeat in range(plan.repeats):
            words = partial(report, f"{self.name}, run {repeat + 1} of {plan.repeats}")
            words(repeat / plan.repeats)
            answered_s, stored_s = self._hub(plan, bodies)
            ours.append(lines / answered_s)
            stored.append(lines / stored_s)
            theirs.append(lines / self._influxdb(plan, bodies))
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        notes = [
            f"hub {a:,.0f} lines/s answered, {b:,.0f} stored; InfluxDB {c:,.0f}; {lines:,} lines with {FIELDS} fields, "
            f"{sum(map(len, bodies)) / 1e6:.0f} MB"
            for a, b, c in zip(ours, stored, theirs, strict=True)
        ]
        return Outcome(
            [
                at_least(f"{self.name}: answered", statistics.median(ours), "lines/s", None),
                at_least(f"{self.name}: answered and stored", statistics.median(stored), "lines/s", None),
                at_least(f"{self.name}: InfluxDB 2.7", statistics.median(theirs), "lines/s", None),
                at_least(f"{self.name}: hub to InfluxDB", ratio, "times", self.must),
            ],
            notes,
        )

    def _hub(self, plan: Plan, bodies: Sequence[bytes]) -> tuple[float, float]:
        """Return the seconds until all was answered, and until it was stored. Raise Failure if lines are missing."""
        with running_hub(plan.data(self.key), core=plan.hub_core, launcher=plan.launcher) as hub:
            target = Target(hub.url, hub.token("gateway"))
            send(target, [first_lines()])
            wait_until_stored(hub)
            begun_s = time.monotonic()
            send(target, bodies)
            answered_s = time.monotonic() - begun_s
            accounting = wait_until_stored(hub)
            stored_s = time.monotonic() - begun_s
        wanted = (len(bodies) * LINES + HOSTS) * FIELDS
        found = sum(device.stored or 0 for device in accounting.devices)
        if found != wanted:
            raise Failure(f"readings stored: {found}, not {wanted}")
        return answered_s, stored_s

    def _influxdb(self, plan: Plan, bodies: Sequence[bytes]) -> float:
        """Return the seconds until everything was answered. Raise Failure if lines are missing."""
        with influxdb_bucket(plan, self.key, "hub") as server:
            access = server.access
            target = Target(access.url, access.token, access.org, access.bucket)
            send(target, [first_lines()])
            begun_s = time.monotonic()
            send(target, bodies)
            seconds = time.monotonic() - begun_s
            answer = httpx.get(
                f"{access.url}/query",
                params={"db": access.bucket, "q": 'SELECT COUNT("field0") FROM bench'},
                headers={"Authorization": f"Token {access.token}"},
                timeout=TIMEOUT_S,
                trust_env=False,
            ).raise_for_status()
        found = answer.json()["results"][0]["series"][0]["values"][0][1]
        if found != len(bodies) * LINES + HOSTS:
            raise Failure(f"InfluxDB has {found} lines, not {len(bodies) * LINES + HOSTS}")
        return seconds


def requests_of(count: int) -> list[bytes]:
    """Return the bodies of so many requests, with lines of all hosts in turn, as a collector sends them."""
    generator = random.Random(7)
    numbers = [f"{generator.uniform(-1000, 1000):.{digits}f}" for digits in (1, 2, 3, 5) for _ in range(1_000)]
    lines = 0
    bodies = []
    for _ in range(count):
        body = []
        for _ in range(LINES):
            body.append(_line(lines % HOSTS, generator.choices(numbers, k=FIELDS), lines + HOSTS))
            lines += 1
        bodies.append("\n".join(body).encode())
    return bodies


def first_lines() -> bytes:
    """Return a line of each host, which also declares its metrics."""
    return "\n".join(_line(host, ["0.5"] * FIELDS, host) for host in range(HOSTS)).encode()


def _line(host: int, values: Sequence[str], number: int) -> str:
    fields = ",".join(f"field{place}={value}" for place, value in enumerate(values))
    return f"bench,host=host{host:03},region=eu {fields} {START_NS + number * STEP_NS}"


def send(target: Target, bodies: Sequence[bytes]) -> None:
    """Send the requests over CONNECTIONS connections; return when all are answered. Raise Failure for an error."""
    waiting = list(reversed(bodies))
    problems: list[str] = []
    threads = [threading.Thread(target=_send_some, args=(target, waiting, problems)) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise Failure(problems[0])


def _send_some(target: Target, waiting: list[bytes], problems: list[str]) -> None:
    parts = urlsplit(target.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    path = f"/api/v2/write?org={target.org}&bucket={target.bucket}"
    headers = {"Authorization": f"Token {target.token}", "Content-Type": "text/plain; charset=utf-8"}
    try:
        while waiting and not problems:
            connection.request("POST", path, waiting.pop(), headers)
            with connection.getresponse() as response:
                text = response.read()
                if response.status != 204:
                    problems.append(f"{target.url} answered {response.status}: {text[:300].decode(errors='replace')}")
    except (OSError, http.client.HTTPException) as error:
        problems.append(f"{target.url}: {error}")
    finally:
        connection.close()


LINE_PROTOCOL = LineProtocol("line-protocol", "line protocol, 8 fields", 60, MUST_RATIO)
