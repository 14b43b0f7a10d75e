"""`hub desired` with a running hub and a device that applies desired values."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from tests.conditions import until
from tests.hub.cli.hub_command import CommandedHub, commanded_hub
from tests.hub.http.command_agent import accept, command_agent
from wire import device as messages
from wire.command import CommandParameter

SETTINGS = [
    CommandParameter("pressure", unit="bar", min=0, max=6),
    CommandParameter("mode", "string", choices=["1", "2"]),
]


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CommandedHub]:
    """Run a hub that knows the device and its settings; the device is not connected."""
    async with commanded_hub(tmp_path_factory.mktemp("hub")) as running:
        async with command_agent(running.url, running.gateway, settings=SETTINGS):
            pass
        await until(lambda: not is_connected(running))
        yield running


def is_connected(hub: CommandedHub) -> bool:
    device = hub.services.devices.get("pump")
    return device is not None and device.session is not None


async def test_set_waits_until_the_device_has_the_value(hub: CommandedHub) -> None:
    """Without --wait it is recorded only. The types are those that the device declares."""
    recorded = await hub.run("desired", "set", "pump", "pressure=2.5")
    assert (recorded.exit_code, recorded.stdout) == (
        0, "pressure=2.5: unknown, the device has not reported its settings\n"
    )  # fmt: skip
    silent = await hub.run("desired", "set", "pump", "pressure=2.5", "--wait", "--timeout", "0.3")
    assert (silent.exit_code, silent.stderr) == (3, silent.stdout)
    async with command_agent(hub.url, hub.gateway, settings=SETTINGS):
        done = await hub.run("desired", "set", "pump", "pressure=3", "mode=1", "--wait")
        assert (done.exit_code, done.stdout) == (0, "pressure=3.0: in sync\nmode=1: in sync\n")
        shown = json.loads((await hub.run("desired", "set", "pump", "mode=2", "--wait", "--json")).stdout)
        assert (shown["state"], shown["reported_version"]) == ("in_sync", shown["version"])
    await until(lambda: not is_connected(hub))


async def test_the_exit_code_says_whether_the_device_has_it(hub: CommandedHub) -> None:
    """1: it rejected a value, with the reason."""

    def reject(desired: messages.Desired) -> list[messages.Reported]:
        return [messages.Reported(desired.version, {}, [messages.SettingProblem("pressure", "refused", "locked")])]

    async with command_agent(hub.url, hub.gateway, settings=SETTINGS, apply=reject):
        rejected = await hub.run("desired", "set", "pump", "pressure=4", "--wait")
        assert (rejected.exit_code, rejected.stdout) == (1, "pressure=4.0: rejected, locked\n")
    await until(lambda: not is_connected(hub))


async def test_a_wrong_setting_shows_those_that_there_are(hub: CommandedHub) -> None:
    """Exit code 2, like wrong values; 1 for another version than the expected one."""
    for words, code, problem in (
        (["set", "pump", "volume=1"], 2, "it has mode, pressure"),
        (["set", "pump", "pressure"], 2, "write NAME=VALUE"),
        (["set", "pump", "pressure=1", "pressure=2"], 2, "given twice"),
        (["set", "pump", "pressure=7"], 2, "7 bar is above 6 bar"),
        (["set", "pump", "pressure=1", "--expect", "999"], 1, "and not 999"),
        (["clear", "pump", "volume"], 2, "it has mode, pressure"),
        (["clear", "pump", "pressure=1"], 2, "write NAME"),
        (["show", "nobody"], 1, "there is no device nobody"),
    ):
        refused = await hub.run("desired", *words)
        assert (refused.exit_code, problem in refused.stderr) == (code, True), refused.stderr


async def test_show_lists_the_settings_and_clear_removes_a_value(hub: CommandedHub) -> None:
    """With both values, the state, the reason and who set it."""
    async with command_agent(hub.url, hub.gateway, settings=SETTINGS, apply=accept):
        await hub.run("desired", "set", "pump", "pressure=5", "--wait")
        lines = (await hub.run("desired", "show", "pump")).stdout.splitlines()
        assert lines[0].split()[:4] == ["setting", "desired", "reported", "state"]
        assert lines[1].startswith("pressure=FLOAT bar (0 to 6)")
        assert "in sync" in lines[1]
        assert lines[1].split()[-2] == "admin"
        assert lines[-1].startswith("version ")
        cleared = await hub.run("desired", "clear", "pump", "pressure")
        assert (cleared.exit_code, cleared.stdout.split(" (")[0]) == (0, "cleared pressure")
    shown = json.loads((await hub.run("desired", "show", "pump", "--json")).stdout)
    assert [row["desired"] for row in shown["settings"] if row["name"] == "pressure"] == [None]
    await until(lambda: not is_connected(hub))
    async with command_agent(hub.url, hub.gateway):
        pass
    bare = json.loads((await hub.run("desired", "show", "pump", "--json")).stdout)
    assert all(row["declared"] is None for row in bare["settings"])


async def test_show_of_a_device_without_a_report(hub: CommandedHub) -> None:
    """It has no time of a report. An offline device has no present connection."""
    async with command_agent(hub.url, hub.gateway, "mute", settings=SETTINGS, apply=lambda desired: []):
        pass
    await until(lambda: (device := hub.services.devices.get("mute")) is not None and device.session is None)
    assert (await hub.run("desired", "show", "mute")).stdout.splitlines()[-1] == "version 0, nothing reported yet"
