"""The settings of sources and the registry of their kinds."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC
from inspect import getdoc
from zoneinfo import ZoneInfo

import msgspec
import pytest

from device_agent.sources.lines import ForeignSettings
from device_agent.sources.serial import SerialSettings
from device_agent.sources.settings import KINDS, SourceContext, SourceSettings, settings_class
from formats.rules import Rules


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_has_settings_of_its_own(kind: str) -> None:
    """A kind is a documented class with the common settings, and no other kind uses it."""
    found = settings_class(kind)
    assert found not in (SourceSettings, ForeignSettings)
    assert set(SourceSettings.__struct_fields__) <= set(found.__struct_fields__)
    assert getdoc(found)
    assert [other for other in KINDS if settings_class(other) is found] == [kind]


def test_a_kind_is_imported_when_it_is_used() -> None:
    """The registry itself imports no library of a kind."""
    program = (
        "import sys; import device_agent.sources.settings; print({'psutil', 'serial', 'typer'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "set()\n"
    )


def test_a_source_reads_by_the_settings_of_its_table_and_the_zone_of_the_agent() -> None:
    """The device is fixed: a field of the data cannot choose another one. A zone of the table wins."""
    settings = SerialSettings(port="/dev/absent", rules=Rules(format="csv", device="{id}"))
    berlin = ZoneInfo("Europe/Berlin")
    input = settings.input(SourceContext("kiln", berlin))
    assert (input.rules.format, input.rules.device, input.zone) == ("csv", "kiln", berlin)
    own = msgspec.structs.replace(settings, rules=Rules(zone="America/Lima"))
    assert str(own.input(SourceContext("kiln", UTC)).zone) == "America/Lima"
    assert settings.default_name == "/dev/absent"
    assert [key for key, _ in settings.problems()] == ["port"]
