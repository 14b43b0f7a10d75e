"""docs/modbus.md and the code agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec

from device_agent.sources.modbus.settings import ModbusSettings, PolledMap
from device_agent.sources.settings import SourceSettings

DOCUMENT = (Path(__file__).parents[2] / "docs" / "modbus.md").read_text(encoding="utf-8")


def first_cells(head: str) -> set[str]:
    """Return the names in the first cells of the table that begins with this head."""
    rows = DOCUMENT.partition(f"| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_every_setting_is_described_and_no_other() -> None:
    """A row for each, except for those that every source has."""
    own = {*ModbusSettings.__struct_fields__} - {*SourceSettings.__struct_fields__}
    assert first_cells("setting of the bus") == own
    assert first_cells("setting of a map") == {*PolledMap.__struct_fields__}


def test_the_example_is_valid() -> None:
    """Its metrics are those that the text names."""
    (example,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    settings = msgspec.convert(tomllib.loads(example), ModbusSettings)
    metrics = {polled.metric(field) for polled in settings.maps for field in polled.fields}
    assert metrics == {"meter.voltage", "meter.temperature", "pump.running"}
    assert all(f"`{metric}`" in DOCUMENT for metric in metrics)
