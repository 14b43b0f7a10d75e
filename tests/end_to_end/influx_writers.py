"""Real writers of InfluxDB that write numbered points to a hub, and repeat what was not answered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import urllib3.exceptions
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS, WriteOptions
from influxdb_client.rest import ApiException

from tests.services.clients import PATH, ClientProgram

START_NS = 1_700_000_000_000_000_000
STEP_NS = 1_000_000
JAVASCRIPT_BATCH = 20

TELEGRAF = """
[agent]
  interval = "1s"
  flush_interval = "100ms"
  metric_batch_size = 100
  metric_buffer_limit = 100000
  omit_hostname = true
[[inputs.tail]]
  files = ["{folder}/http.lines", "{folder}/socket.lines", "{folder}/v1.lines"]
  initial_read_offset = "beginning"
  watch_method = "poll"
  max_undelivered_lines = 400
  path_tag = ""
  data_format = "influx"
[[outputs.influxdb_v2]]
  urls = ["{url}"]
  token = "{token}"
  organization = "any"
  bucket = "telegraf"
  namepass = ["http"]
[[outputs.influxdb]]
  urls = ["{url}"]
  username = "any"
  password = "{token}"
  database = "telegraf"
  namepass = ["v1"]
[[outputs.websocket]]
  url = "{ws_url}/v1/line"
  namepass = ["socket"]
  data_format = "influx"
  [outputs.websocket.headers]
    Authorization = "Bearer {token}"
"""
"""A file of lines for each output: the measurement names the output."""


def line(measurement: str, device: str, number: int) -> str:
    return f"{measurement},device={device} number={number}i,half={number / 2} {START_NS + number * STEP_NS}"


def write_lines(folder: Path, measurement: str, points: int) -> None:
    """Write the file that Telegraf reads for an output."""
    text = "".join(f"{line(measurement, f'telegraf-{measurement}', number)}\n" for number in range(points))
    (folder / f"{measurement}.lines").write_text(text)


@contextlib.asynccontextmanager
async def running_telegraf(program: Path, folder: Path, url: str, token: str) -> AsyncIterator[None]:
    """Run Telegraf on the files in `folder`."""
    config = folder / "telegraf.conf"
    config.write_text(TELEGRAF.format(folder=folder, url=url, ws_url=url.replace("http", "ws", 1), token=token))
    with (folder / "telegraf.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(program, "--config", config, stdout=log, stderr=log)
    try:
        yield
        assert process.returncode is None, (folder / "telegraf.log").read_text()[-2000:]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


class PythonWriter:
    """Writes points with influxdb-client in a thread until it is stopped; `answered` of them were answered with 204.

    `statuses` are those of the answers, and 0 where there was none.
    """

    def __init__(self, url: str, token: str, device: str, *, batch: int = 50) -> None:
        self.device = device
        self.answered = 0
        self.statuses: set[int] = set()
        self._client: Any = InfluxDBClient(url, token, org="any", timeout=5_000)
        self._batch = batch
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=device)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Write inside the block, and to the end of the batch."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
            self._client.close()

    def _run(self) -> None:
        api = self._client.write_api(write_options=SYNCHRONOUS)
        while not self._stop.is_set():
            lines = [line("sync", self.device, self.answered + number) for number in range(self._batch)]
            try:
                api.write("any", record=lines)
            except ApiException as error:
                self.statuses.add(error.status)
                self._stop.wait(0.05)
            except (urllib3.exceptions.HTTPError, OSError):
                self.statuses.add(0)
                self._stop.wait(0.05)
            else:
                self.statuses.add(HTTPStatus.NO_CONTENT)
                self.answered += self._batch


class BatchingWriter:
    """Writes points with the batching mode of influxdb-client, which sends in the background and repeats by itself."""

    def __init__(self, url: str, token: str, device: str) -> None:
        self.failures: list[str] = []
        self._client: Any = InfluxDBClient(url, token, org="any", timeout=5_000, enable_gzip=True)
        self._device = device
        options = WriteOptions(
            batch_size=200, flush_interval=200, retry_interval=200, max_retry_delay=500, max_retries=200,
            max_retry_time=60_000,
        )  # fmt: skip
        self._api: Any = self._client.write_api(
            write_options=options, error_callback=lambda _, lines, error: self.failures.append(f"{error}: {lines[:60]}")
        )

    def write(self, points: range) -> None:
        """Hand over some points."""
        for number in points:
            self._api.write("any", record=line("batching", self._device, number))

    def close(self) -> None:
        """Return when everything was sent, or given up."""
        self._api.close()
        self._client.close()


class JavaScriptWriter:
    """Writes points with the client for JavaScript, in a program, as PythonWriter does in a thread."""

    def __init__(self) -> None:
        self.answered = 0
        self.statuses: set[int] = set()

    @contextlib.asynccontextmanager
    async def running(self, program: ClientProgram, url: str, token: str, device: str) -> AsyncIterator[None]:
        """Write inside the block, and to the end of the batch."""
        process = await asyncio.create_subprocess_exec(
            *program.command, url, token, device, str(JAVASCRIPT_BATCH),
            cwd=program.folder, env={**os.environ, "PATH": PATH},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        reading = asyncio.create_task(self._read(process.stdout))
        try:
            yield
            process.stdin.close()
            await reading
            assert await process.wait() == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            reading.cancel()
            await process.wait()

    async def _read(self, output: asyncio.StreamReader) -> None:
        async for text in output:
            status, answered = map(int, text.split())
            self.statuses.add(status)
            self.answered = answered
