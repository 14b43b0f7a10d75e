"""Files that people really have, through `hub import` and its dry run into a real hub."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, TypeVar

import pytest
from typer.testing import CliRunner

from hub.cli.application import app
from tests.end_to_end.hub import Hub
from tests.end_to_end.import_command import stored_values

CASES = Path(__file__).parents[1] / "formats" / "cases"
Answer = TypeVar("Answer")


class Imports(NamedTuple):
    """A hub in a loop of its own thread, so that a command can run in this one."""

    hub: Hub
    loop: asyncio.AbstractEventLoop

    def call(self, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
        """Return the result of a coroutine in the loop of the hub."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def run(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        """Return the exit code, the report of the file, and the errors of `hub import`."""
        options = ("--url", self.hub.url, "--data", str(self.hub.data), "--json")
        result = CliRunner().invoke(app, ["import", *arguments, *options])
        report = json.loads(result.stdout)["files"][0] if result.stdout else {}
        return result.exit_code, report, result.stderr

    def import_file(self, file: Path, *options: str) -> tuple[int, dict[str, Any]]:
        """Import a file, and return the exit code and the report. Its dry run says the same before and after.

        Only the hint differs after it: the type of a metric is now one of the hub.
        """
        tried, dry, _ = self.run(str(file), "--dry-run", *options)
        status, report, errors = self.run(str(file), *options)
        again, after, _ = self.run(str(file), "--dry-run", *options)
        assert (tried, again) == (status, status), errors
        for found in (dry, after):
            for name in ("mapping", "readings", "devices", "batches", "refused", "no_values", "epoch"):
                assert found[name] == report[name], name
            assert found["stored"] == 0
        assert dry["refusals"] == report["refusals"]
        reasons, later = (
            [{**refusal, "message": refusal["message"].partition("; ")[0]} for refusal in found["refusals"]]
            for found in (report, after)
        )
        assert reasons == later
        assert report["stored"] == report["readings"]
        return status, report

    def values(self, device: str, metric: str) -> list[Any]:
        """Return the stored values of a metric in order of time, after the hub has stored everything."""
        self.call(self.hub.settled())
        return list(self.call(stored_values(self.hub, device, metric)))


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def imports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Imports]:
    hub = Hub(tmp_path_factory.mktemp("cases") / "data")
    with running_loop() as loop:
        running = Imports(hub, loop)
        running.call(hub.start())
        try:
            yield running
            assert running.call(hub.stop()) == 0
        finally:
            running.call(hub.kill())


@pytest.mark.parametrize(
    ("case", "metrics"),
    [
        ("thousands-tab.csv", {"power": [1234.5, 900.25, 12345.0]}),
        ("quoted-decimal-comma.csv", {"temp": [21.5, 21.75], "power": [1234.5, 900.25]}),
        ("quoted-thousands.csv", {"power": [1234.5, 900.25, 12345.75]}),
        ("sep-line.csv", {"Current": [0.005, -0.25, -0.125], "Voltage": [2.0, 1.75, 1.5]}),
        ("no-value-words.csv", {"a": [21.5, 21.6], "b": [float(number) for number in range(1, 9)]}),
        ("units-in-cells.csv", {"Boiler": [40.25, 40.5, 41.0]}),
        ("space-groups.csv", {"power": [1234.5, 1900.25, 12345.75]}),
        ("apostrophe.csv", {"Current": [0.005, -0.25, -0.125]}),
        ("quoted-comma-text.csv", {"temp": [21.5, 21.75]}),
        ("hour-24.csv", {"Wirkleistung": [1.25, 1.5, 1.75, 1.0, 2.0]}),
    ],
)
def test_numbers_are_stored_by_the_evidence_of_their_column(
    imports: Imports, case: str, metrics: dict[str, list[float]]
) -> None:
    """Nothing is rejected."""
    device = case.partition(".")[0]
    status, report = imports.import_file(CASES / case, "--device", device, "--zone", "UTC")
    assert (status, report["refused"]) == (0, {})
    for metric, values in metrics.items():
        assert imports.values(device, metric) == values


@pytest.mark.parametrize(
    ("case", "device", "metrics"),
    [
        ("toa5.dat", "Meadow", {"AirTC_Avg": [5.31, 4.9], "RH": [88.2, 88.9, 89.4]}),
        ("hobo.csv", "creek", {"Temp": [8.81, 8.94, 9.03]}),
        ("annotated-measurements.csv", "kitchen", {"air.temperature": [21.5, 21.6], "water.temperature": [55.6]}),
    ],
)
def test_files_that_describe_themselves_name_their_device(
    imports: Imports, case: str, device: str, metrics: dict[str, list[float]]
) -> None:
    """Their headers, units and measurements are read as what they say."""
    status, report = imports.import_file(CASES / case, "--zone", "UTC")
    assert (status, report["refused"]) == (0, {})
    for metric, values in metrics.items():
        assert imports.values(device, metric) == values


def test_annotated_tables_are_read_by_their_own_headers(imports: Imports, tmp_path: Path) -> None:
    """The table without a host is rejected line by line, and can be imported from the rejected lines."""
    rejects = tmp_path / "rejects.csv"
    status, report = imports.import_file(CASES / "annotated-tables.csv", "--rejects", str(rejects))
    assert (status, report["refused"]) == (1, {"device": 5})
    assert imports.values("kitchen", "temperature") == [21.0, 21.1, 21.2, 21.3, 21.4]
    assert imports.values("kitchen", "co2") == [5.0, 5.1, 5.2, 5.3, 5.4]
    status, report = imports.import_file(rejects, "--device", "tank")
    assert (status, report["readings"]) == (0, 5)
    assert imports.values("tank", "pH") == [7.0, 7.1, 7.2, 7.3, 7.4]


def test_an_open_quote_costs_its_own_line(imports: Imports, tmp_path: Path) -> None:
    """The file of rejected lines has that line alone, below the header."""
    lines = [f"2024-05-01T{minute // 60:02}:{minute % 60:02}:00Z,{20 + minute % 10 / 10},\n" for minute in range(1_200)]
    lines[100] = '2024-05-01T01:40:00Z,20.2,"cal\n'
    file, rejects = tmp_path / "log.csv", tmp_path / "rejects.csv"
    file.write_text("time,temperature,note\n" + "".join(lines))
    status, report = imports.import_file(file, "--device", "open-quote", "--rejects", str(rejects))
    assert (status, report["refused"], report["readings"]) == (1, {"quote": 1}, 1_199)
    assert report["refusals"][0]["line"] == 102
    assert rejects.read_text() == "time,temperature,note\n" + lines[100]
    assert len(imports.values("open-quote", "temperature")) == 1_199


def test_an_even_evidence_is_asked_for(imports: Imports, tmp_path: Path) -> None:
    """The unclear values are rejected alone, and the setting that decides imports them."""
    file, rejects = CASES / "thousands-semicolon.csv", tmp_path / "rejects.csv"
    options = ("--device", "unclear", "--zone", "UTC")
    status, report = imports.import_file(file, *options, "--rejects", str(rejects))
    assert (status, report["refused"]) == (1, {"ambiguous": 2})
    assert 'set decimal = "," or thousands = ","' in report["refusals"][0]["message"]
    status, _ = imports.import_file(rejects, *options, "--thousands", ",")
    assert (status, imports.values("unclear", "power")) == (0, [1234.0, 900.0, 12345.0])


@pytest.mark.parametrize(
    ("case", "metric", "values"),
    [("device-names.csv", "temperature", [21.5, 19.5, 17.0]), ("device-names.lp", "temp", [21.5, 20.0])],
)
def test_names_of_devices_are_repaired(imports: Imports, case: str, metric: str, values: list[float]) -> None:
    """They have the same ids as at every input: letters that are not allowed are replaced, and a hash is appended."""
    status, report = imports.import_file(CASES / case)
    assert (status, report["devices"]) == (0, len(values))
    devices = [f"{name}" for name in ("Living_Room-", "K_che-", "attic_north-")][: len(values)]
    listed = imports.call(imports.hub.get("/api/v1/devices"))["devices"]
    for beginning, value in zip(devices, values, strict=True):
        device = next(found["device"] for found in listed if found["device"].startswith(beginning))
        assert value in imports.values(device, metric)


@pytest.mark.parametrize(
    ("case", "option", "name"),
    [("dry-run-message.csv", "--device-column", "Station-id"), ("dry-run-message.lp", "--device-tag", "entity_id")],
)
def test_a_device_that_is_not_named_is_asked_for(imports: Imports, case: str, option: str, name: str) -> None:
    """The dry run and the import say the same, and the option that they name works."""
    file = str(CASES / case)
    status, _, errors = imports.run(file)
    assert (status, errors) == (2, imports.run(file, "--dry-run")[2])
    assert "no column, tag or field names the device: set --device ID" in errors
    assert option in errors
    assert name in errors
    status, report = imports.import_file(CASES / case, option, name, "--type", "state=string")
    assert (status, report["devices"]) == (0, 1 if case.endswith("csv") else 3)


def test_lines_of_one_time_stay_at_that_time(imports: Imports, tmp_path: Path) -> None:
    """Only a second reading of one metric is moved by 1 ns, not what else the device has at that time."""
    start_ns = 1_700_000_000_000_000_000
    lines = [
        f"disk,device=server,path={path} used={turn}.5 {start_ns + turn * 10**9}\n"
        for turn in range(50)
        for path in ("b", "c", "a")
    ]
    lines += [f"disk,device=server,path=b free=1,used=7 {start_ns + 49 * 10**9}\n"]
    file = tmp_path / "disks.lp"
    file.write_text("".join(lines))
    status, report = imports.import_file(file)
    assert (status, report["readings"]) == (0, 152)
    assert imports.values("server", "a.used") == [turn + 0.5 for turn in range(50)]
    for metric, count, last in (("a.used", 50, 0), ("c.used", 50, 0), ("b.free", 1, 0), ("b.used", 51, 1)):
        times = _times(imports, "server", metric)
        assert (len(times), times[-1] - 49 * 10**9 - start_ns) == (count, last), metric


def _times(imports: Imports, device: str, metric: str) -> list[int]:
    query = {"device": device, "metric": metric, "points": 0, "from": "0"}
    answer = imports.call(imports.hub.get("/api/v1/history", **query))
    return list(answer["series"][0]["time_ns"])


@pytest.mark.parametrize("encoding", ["cp850", "utf-16-le", "mac_roman", "cp037"])
def test_an_encoding_is_read_right(imports: Imports, tmp_path: Path, encoding: str) -> None:
    """Also one whose line ends are no bytes of ASCII; rejected lines keep it."""
    file, rejects = tmp_path / "log.csv", tmp_path / "rejects.csv"
    file.write_bytes("time;Küche\n2024-01-01 00:00:00;21,5\n2024-01-01 00:01:00;ä\n".encode(encoding))
    options = ("--device", f"enc-{encoding}", "--zone", "UTC", "--encoding", encoding)
    status, report = imports.import_file(file, *options, "--rejects", str(rejects))
    assert (status, report["refused"]) == (1, {"type": 1})
    assert imports.values(f"enc-{encoding}", "Küche") == [21.5]
    assert rejects.read_bytes().decode(encoding) == "time;Küche\n2024-01-01 00:01:00;ä\n"


def test_a_header_that_begins_with_a_number_sign_is_a_header(imports: Imports, tmp_path: Path) -> None:
    """Comments before it are none."""
    file = tmp_path / "log.csv"
    file.write_text("# made by a logger\n#time,temp,hum\n2024-01-01T00:00:00Z,21.5,40\n2024-01-01T00:01:00Z,21.6,41\n")
    status, _ = imports.import_file(file, "--device", "sign")
    assert (status, imports.values("sign", "hum")) == (0, [40.0, 41.0])
