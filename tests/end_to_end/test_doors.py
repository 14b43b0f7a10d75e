"""Every door reads the same values and times in the same way: the tables of docs/formats.md, through the real doors."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.bridged_hub import bridged_hub, connected
from tests.end_to_end.door_tables import (
    JSON_VALUES,
    NOT_IN_SPARKPLUG,
    REFUSED,
    SPARKPLUG_TIMES,
    TEXT_VALUES,
    TIMES,
    Row,
    json_line,
    markdown,
    nanoseconds,
    text_line,
    time_line,
)
from tests.end_to_end.doors import (
    Found,
    through_import,
    through_mqtt,
    through_plain,
    through_serial,
    through_sparkplug,
    through_try,
)
from tests.end_to_end.hub import running_hub
from tests.services.mosquitto import Mosquitto

ZONE = "Europe/Berlin"
TABLES: dict[str, tuple[Sequence[Row], Callable[[int, Row], str], dict[str, str]]] = {
    "json": (JSON_VALUES, json_line, {"format": "json"}),
    "text": (TEXT_VALUES, text_line, {"format": "pairs"}),
    "times": (TIMES, time_line, {"format": "json", "zone": ZONE}),
}


def lines_of(table: str) -> list[str]:
    rows, line, _ = TABLES[table]
    return [line(number, row) for number, row in enumerate(rows)]


def check(table: str, found: Found) -> None:
    """Assert that a door stores what the table says, and the neighbours of what it refuses."""
    rows = TABLES[table][0]
    wrong: dict[str, Any] = {}
    for number, row in enumerate(rows):
        got = found.values.get(f"v{number}")
        if table == "times":
            time_ns = found.times.get(f"v{number}")
            want: Any = None if row.stored is None else nanoseconds(row.stored)
            if time_ns != want:
                wrong[row.sent] = (time_ns, want)
        elif got != row.stored or type(got) is not type(row.stored) or found.values.get(f"ok{number}") != number:
            wrong[row.sent] = (got, row.stored, found.values.get(f"ok{number}"))
    assert wrong == {}
    assert found.refused == sum(row.outcome == REFUSED for row in rows)


def test_the_tables_are_those_of_the_document() -> None:
    """The document has the tables that the doors are compared with."""
    document = Path(__file__).parents[2] / "docs" / "formats.md"
    assert markdown() in document.read_text(encoding="utf-8")


@pytest.mark.parametrize("table", TABLES)
async def test_hub_try(tmp_path: Path, table: str) -> None:
    """The check of a file."""
    check(table, await through_try(tmp_path, lines_of(table), TABLES[table][2]))


@pytest.mark.deadline(180)
async def test_imports_plain_clients_and_serial_ports(tmp_path: Path) -> None:
    """A file that is imported, frames and requests of a client, and the lines of a sensor through an agent."""
    async with running_hub(tmp_path / "data") as hub:
        for table, (_, _, rules) in TABLES.items():
            check(table, await through_import(hub, tmp_path, f"import-{table}", lines_of(table), rules))
            check(table, await through_plain(hub, f"plain-{table}", lines_of(table), rules))
        for table, (_, _, rules) in TABLES.items():
            check(table, await through_serial(hub, tmp_path, table, lines_of(table), rules))


@pytest.mark.deadline(180)
async def test_mqtt_and_sparkplug(mosquitto_program: Path, tmp_path: Path) -> None:
    """Messages of a broker. Sparkplug declares types, so its texts stay texts."""
    subscriptions = ", ".join(
        f'{{ topic = "doors/{table}", device = "{table}", payload = "{rules["format"]}", zone = "{ZONE}" }}'
        for table, (_, _, rules) in TABLES.items()
    )
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        async with bridged_hub(tmp_path, broker, f'subscribe = [{subscriptions}]\nhost_id = "hub"') as hub:
            await connected(hub)
            for table in TABLES:
                check(table, await through_mqtt(hub, broker, table, lines_of(table)))
            sent = {number: row for number, row in enumerate(JSON_VALUES) if row.sent not in NOT_IN_SPARKPLUG}
            values = {f"v{n}": json.loads(row.sent) for n, row in sent.items()}
            found = await through_sparkplug(hub, broker, "values", values, {})
            declared = {f"v{n}": row.stored if row.sparkplug is None else row.sparkplug for n, row in sent.items()}
            assert found.values == {name: value for name, value in declared.items() if value is not None}
            assert found.refused == 0
            times_ms = {f"v{n}": json.loads(row.sent.replace("none", "null")) for n, row in enumerate(SPARKPLUG_TIMES)}
            found = await through_sparkplug(hub, broker, "times", dict.fromkeys(times_ms, 1), times_ms)
            wanted = {f"v{n}": nanoseconds(row.stored) for n, row in enumerate(SPARKPLUG_TIMES) if row.stored}
            assert found.times == wanted
            assert found.refused == sum(row.outcome == REFUSED for row in SPARKPLUG_TIMES)
