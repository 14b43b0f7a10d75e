"""Telegraf with InfluxDB behind it, for comparison: MQTT messages in, points stored."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from bench.measure import STORE_SECONDS, Failure
from bench.mqtt_load import TOPIC
from bench.stores import on_core
from tests.services.built import INFLUXDB2, TELEGRAF, BuildError, Source, build
from tests.services.found import INFLUXDB2 as INFLUXDB2_SERVICE
from tests.services.found import TELEGRAF as TELEGRAF_SERVICE
from tests.services.influxdb import Access, Influxdb2, InfluxdbServer

START_SECONDS = 30.0
POLL_SECONDS = 0.1
"""Interval between two counts. A count costs InfluxDB some milliseconds, as a query of the accounting costs the hub."""

CONFIG = """
[agent]
  interval = "1s"
  flush_interval = "200ms"
  metric_batch_size = 5000
  metric_buffer_limit = 1000000
  omit_hostname = true
[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:{port}"]
  topics = ["{topic}/#"]
  qos = {qos}
  client_id = "telegraf"
  persistent_session = {persistent}
  max_undelivered_messages = 20000
  name_override = "bench"
  data_format = "json"
  json_time_key = "ts"
  json_time_format = "unix_ns"
[[outputs.influxdb_v2]]
  urls = ["{url}"]
  token = "{token}"
  organization = "{org}"
  bucket = "{bucket}"
"""
"""Settings for speed: batches and messages in flight are as many as Telegraf can use."""


class Telegraf:
    """A running pair, connected to the broker."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def stored(self, metrics: list[str]) -> dict[str, int]:
        """Return the points that InfluxDB has, by metric."""
        counts = ",".join(f'COUNT("{name}") AS "{name}"' for name in metrics)
        answer = httpx.get(
            f"{self._access.url}/query",
            params={"db": self._access.bucket, "q": f"SELECT {counts} FROM bench"},
            headers={"Authorization": f"Token {self._access.token}"},
            timeout=START_SECONDS,
            trust_env=False,
        ).raise_for_status()
        series = answer.json()["results"][0].get("series")
        return dict(zip(metrics, series[0]["values"][0][1:], strict=True)) if series else dict.fromkeys(metrics, 0)

    def wait(self, messages: int, metrics: list[str]) -> float:
        """Return the time on the monotonic clock when the last message was stored. Raise Failure where one is missing
        or duplicated."""
        deadline_s = time.monotonic() + STORE_SECONDS
        while self.stored(metrics[:1])[metrics[0]] < messages:
            if time.monotonic() > deadline_s:
                raise Failure(f"Telegraf's points stored: {self.stored(metrics[:1])}, not {messages}")
            time.sleep(POLL_SECONDS)
        ended_s = time.monotonic()
        wrong = {name: count for name, count in self.stored(metrics).items() if count != messages}
        if wrong:
            raise Failure(f"Telegraf's points stored: {wrong}, not {messages} each")
        return ended_s


@contextmanager
def running_telegraf(folder: Path, *, port: int, qos: int, core: int) -> Iterator[Telegraf]:
    """Run both on `core`, with Telegraf subscribed to the broker on `port`."""
    telegraf, influxd = (
        _program(*source) for source in ((TELEGRAF, TELEGRAF_SERVICE.variable), (INFLUXDB2, INFLUXDB2_SERVICE.variable))
    )
    with ExitStack() as stack:
        with on_core(core):
            server = stack.enter_context(InfluxdbServer(influxd, folder / "influxdb", Influxdb2()))
        access = server.fresh()
        config = folder / "telegraf.conf"
        config.write_text(
            CONFIG.format(
                port=port,
                topic=TOPIC,
                qos=qos,
                persistent="true" if qos else "false",
                url=access.url,
                token=access.token,
                org=access.org,
                bucket=access.bucket,
            )
        )
        with on_core(core):
            process = stack.enter_context(
                subprocess.Popen([telegraf, "--config", str(config)], stderr=subprocess.PIPE, text=True)
            )
        lines: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_read, args=(process, lines), name="telegraf-output")
        reader.start()
        stack.callback(reader.join)
        stack.callback(process.terminate)
        _wait_until_connected(lines)
        yield Telegraf(access)


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        lines.put(line)
    lines.put(None)


def _wait_until_connected(lines: queue.Queue[str | None]) -> None:
    output: list[str] = []
    while True:
        try:
            line = lines.get(timeout=START_SECONDS)
        except queue.Empty:
            raise Failure(f"Telegraf does not connect: {''.join(output)[-500:]}") from None
        if line is None:
            raise Failure(f"Telegraf ended: {''.join(output)[-500:]}")
        output.append(line)
        if "Connected [" in line:
            return


def _program(source: Source, variable: str) -> Path:
    """Return the program. Raise Failure where it is not installed and cannot be built."""
    named = os.environ.get(variable)
    if named:
        return Path(named)
    try:
        return build(source)
    except BuildError as error:
        raise Failure(f"{source.folder}: {error}") from error
