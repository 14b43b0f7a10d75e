"""`hub metric` with a running hub: the list, and changes of type, name, unit and description."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from tests.hub.cli.hub_command import CommandedHub, batch, commanded_hub
from wire import device as messages


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CommandedHub]:
    """Run a hub with a device."""
    async with commanded_hub(tmp_path_factory.mktemp("hub")) as running:
        await running.send("pump", batch(1, 1.5))
        yield running


async def test_the_list_shows_every_metric(hub: CommandedHub) -> None:
    """As a table for people and as JSON for programs; an unknown device is an error."""
    shown = await hub.run("metric", "list", "pump")
    header, flow, state = (line.split() for line in shown.stdout.splitlines())
    assert header == ["metric", "type", "unit", "earlier", "names", "earlier", "types", "description"]
    assert (flow, state) == (["flow", "float", "m³/h"], ["state", "string"])
    listed = json.loads((await hub.run("metric", "list", "pump", "--json")).stdout)
    assert [(metric["metric"], metric["earlier_names"], metric["earlier_types"]) for metric in listed] == [
        ("flow", [], []),
        ("state", [], []),
    ]
    unknown = await hub.run("metric", "list", "nothing")
    assert (unknown.exit_code, unknown.stderr) == (1, "hub metric list: there is no device nothing\n")


async def test_a_metric_is_renamed_and_described(hub: CommandedHub) -> None:
    """The new row is printed. The old name still selects the metric; a name that is taken is an error."""
    done = await hub.run("metric", "rename", "pump", "flow", "flow rate")
    assert (done.exit_code, done.stdout.splitlines()[1].split()) == (0, ["flow", "rate", "float", "m³/h", "flow"])
    done = await hub.run("metric", "describe", "pump", "flow", "--unit", "l/min", "--description", "at the outlet")
    assert done.stdout.splitlines()[1].split() == ["flow", "rate", "float", "l/min", "flow", "at", "the", "outlet"]
    taken = await hub.run("metric", "rename", "pump", "state", "flow")
    assert (taken.exit_code, taken.stderr) == (
        1, "hub metric rename: the name flow belongs to the metric flow rate: choose another one\n"
    )  # fmt: skip
    nothing = await hub.run("metric", "describe", "pump", "flow")
    assert (nothing.exit_code, nothing.stderr) == (
        2, "hub metric describe: name what to set: --unit or --description\n"
    )  # fmt: skip


async def test_a_new_type_brings_back_what_waited_in_quarantine(hub: CommandedHub) -> None:
    """The command prints how many messages were accepted, and which stay."""
    await hub.send(
        "pump",
        batch(1, 1.5),
        messages.Data(2, [7], {"state": [3.5], "flow": [2.0]}),
        messages.Data(3, [8], {"none": [1]}),
    )
    done = await hub.run("metric", "retype", "pump", "state", "float")
    assert done.stdout.splitlines()[1].split() == ["state", "float", "string"]
    assert done.stdout.splitlines()[2] == "accepted 1 message from quarantine with 1 reading"
    assert done.stderr == "1 message stays in quarantine: unknown_metric\n"
    again = json.loads((await hub.run("metric", "retype", "pump", "state", "float", "--json")).stdout)
    assert (again["metric"]["earlier_types"], again["retried"]["accepted"]) == (["string"], 0)
    wrong = await hub.run("metric", "retype", "pump", "state", "number")
    assert wrong.exit_code == 2
