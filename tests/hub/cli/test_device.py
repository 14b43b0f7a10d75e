"""`hub device` with a running hub: the list, and the retirement of devices that no longer exist."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from hub.cli.device import stale_text
from tests.hub.cli.hub_command import CommandedHub, batch, commanded_hub


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CommandedHub]:
    """Run a hub without a device."""
    async with commanded_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


async def test_the_list_shows_presence_contact_and_metrics(hub: CommandedHub) -> None:
    """As a table for people and as JSON for programs; without a device it says how to connect one."""
    empty = await hub.run("device", "list")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert "there is no device yet: `hub token create --role device" in empty.stderr
    await hub.send("pump", batch(1, 1.5))
    shown = await hub.run("device", "list")
    header, row = shown.stdout.splitlines()
    assert header.split() == [
        *(
            "device",
            "presence",
            "since",
            "(UTC)",
            "last",
            "seen",
            "(UTC)",
            "last",
            "reading",
            "(UTC)",
            "metrics",
            "agent",
        )
    ]
    cells = row.split()
    assert (cells[:2], cells[-2:]) == (["pump", "offline"], ["2", "test/1"])
    assert cells[2] > "2026"
    assert cells[4] > "2026"
    assert cells[6:8] == ["1970-01-01", "00:00:01"]
    (device,) = json.loads((await hub.run("device", "list", "--json")).stdout)
    assert (device["device"], device["connected"], len(device["metrics"])) == ("pump", False, 2)
    assert (await hub.run("device", "list", "--state", "offline", "--state", "stale")).stdout == shown.stdout
    others = await hub.run("device", "list", "--state", "silent")
    assert (others.exit_code, others.stdout, others.stderr) == (0, "", "no device is in this state\n")
    wrong = await hub.run("device", "list", "--state", "away")
    assert (wrong.exit_code, "the states are connected, reconnecting" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("stale", "presence"),
    [([], "offline"), (["flow"], "offline, stale: flow"), (["a", "b", "c", "d"], "offline, 4 stale")],
)
def test_few_stale_metrics_are_named(stale: list[str], presence: str) -> None:
    """If there are more than three, the list has their number."""
    assert f"offline{stale_text(stale)}" == presence


async def test_devices_are_retired_by_pattern(hub: CommandedHub) -> None:
    """The count is printed; the others stay."""
    for device in ("test-1", "test-2", "boiler"):
        await hub.send(device, batch(1, 1.0))
    done = await hub.run("device", "retire", "test-*", "--yes")
    assert (done.exit_code, done.stdout) == (0, "retired 2\n")
    listed = json.loads((await hub.run("device", "list", "--json")).stdout)
    assert "boiler" in {device["device"] for device in listed}
    assert not {"test-1", "test-2"} & {device["device"] for device in listed}
    again = await hub.run("device", "retire", "test-*", "--yes")
    assert (again.exit_code, again.stderr) == (1, "hub device retire: no device in service matches test-*\n")


async def test_the_last_contact_selects_devices(hub: CommandedHub) -> None:
    """A device that was seen since then is not selected; the answer of --json is the hub's."""
    await hub.send("fresh", batch(1, 1.0))
    assert (await hub.run("device", "retire", "fresh", "--unseen", "1h", "--yes")).exit_code == 1
    done = await hub.run("device", "retire", "fresh", "--yes", "--json")
    assert json.loads(done.stdout) == {"count": 1, "devices": ["fresh"], "connected": 0}
    assert (await hub.run("device", "retire", "fresh", "--unseen", "soon", "--yes")).exit_code == 2


async def test_without_a_terminal_a_retirement_needs_its_confirmation(hub: CommandedHub) -> None:
    """Nothing is retired, and the sentence names the option."""
    await hub.send("stays", batch(1, 1.0))
    refused = await hub.run("device", "retire", "stays")
    assert (refused.exit_code, refused.stderr) == (
        2, "hub device retire: confirm with --yes: there is no terminal to ask\n"
    )  # fmt: skip
    assert "stays" in (await hub.run("device", "list")).stdout
