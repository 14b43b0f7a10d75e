"""`hub command send --to` and `hub command jobs` with a running hub and devices that answer."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from hub.model.command_job import JobState
from tests.conditions import until
from tests.hub.cli.hub_command import CommandedHub, commanded_hub
from tests.hub.http.command_agent import Execute, command_agent, state, succeed
from tests.tasks import running_task
from wire import device as messages
from wire.command import CommandDeclaration, CommandParameter

PUMPS = [f"pump-{number}" for number in range(4)]


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CommandedHub]:
    """Run a hub with four pumps, of which two fail to stop."""

    def fail(command: messages.Command) -> list[messages.CommandState]:
        if command.name == "stop":
            return [state(command, "failed", code="stuck", message="the valve is stuck")]
        return succeed(command)

    async with (
        commanded_hub(tmp_path_factory.mktemp("hub")) as running,
        running_task(running.services.commands.run()),
        running_task(running.services.command_jobs.run()),
        AsyncExitStack() as agents,
    ):
        for number, pump in enumerate(PUMPS):
            execute: Execute = fail if number in (1, 2) else succeed
            tags = {"site": "north" if number < 3 else "south"}
            await agents.enter_async_context(
                command_agent(running.url, running.gateway, pump, execute=execute, tags=tags)
            )
        yield running


async def test_send_to_many_shows_the_progress_and_a_summary(hub: CommandedHub) -> None:
    """The progress after each batch on stderr, the summary on stdout; the parameters have the declared types."""
    done = await hub.run("command", "send", "--to", "pump-*", "set_speed", "speed=12", "mode=7", "--batch", "2")
    assert (done.exit_code, done.stdout) == (0, "completed: 4 succeeded\n"), done.stderr
    first, *progress = done.stderr.splitlines()
    made = re.fullmatch(r"job ([0-9a-f]{32}): 4 devices in 2 batches", first)
    assert made is not None
    assert "one batch" not in done.stderr
    assert 1 <= len(progress) <= 2
    assert progress[-1] == "4 of 4: 4 succeeded"
    listed = await hub.run("command", "list", "pump-3", "--json")
    (command,) = json.loads(listed.stdout)
    assert (command["parameters"], command["job"]) == ({"speed": 12.0, "mode": "7"}, made[1])
    shown = await hub.run("command", "show", "pump-3", command["id"])
    assert f", job {made[1]}" in shown.stdout.splitlines()[0]


async def test_a_job_stops_at_the_share_and_shows_who_failed(hub: CommandedHub) -> None:
    """Exit code 1. The devices that did not succeed are shown with the reason."""
    stopped = await hub.run("command", "send", "--to", "pump-*", "stop", "--batch", "2", "--stop-at", "50%")
    assert (stopped.exit_code, stopped.stdout) == (
        1,
        "stopped (1 of 2 targets did not succeed: no further command is sent): 1 succeeded, 1 failed, 2 not sent\n",
    )
    id = stopped.stderr.split()[1].rstrip(":")
    assert f"see `hub command jobs {id}`" in stopped.stderr
    shown = (await hub.run("command", "jobs", id)).stdout
    assert shown.startswith("stop (call) to pump-* by admin ")
    assert re.search(r"^pump-1 +1 +failed +the valve is stuck +[0-9a-f]{32}", shown, re.MULTILINE)
    found = json.loads((await hub.run("command", "jobs", id, "--json")).stdout)
    assert [target["device"] for target in found["failed_targets"]] == ["pump-1"]
    newest = (await hub.run("command", "jobs", "--limit", "1")).stdout.splitlines()[1]
    assert newest.split()[0] == id
    never = await hub.run("command", "send", "--to", "pump-*", "stop", "--batch", "2", "--stop-at", "never")
    assert (never.exit_code, never.stdout) == (1, "completed: 2 succeeded, 2 failed\n")


async def test_a_dry_run_lists_the_devices(hub: CommandedHub) -> None:
    """Nothing is sent. Ids and tags select."""
    before = (await hub.run("command", "jobs", "--json")).stdout
    words = ["--to", "pump-*", "--to", "site=north", "set_speed", "speed=31", "--batch", "2", "--dry-run"]
    dry = await hub.run("command", "send", *words)
    assert dry.exit_code == 0, dry.stderr
    rows = [line.split(maxsplit=2) for line in dry.stdout.splitlines()[1:]]
    assert [row[:2] for row in rows] == [["pump-0", "1"], ["pump-1", "1"], ["pump-2", "2"]]
    assert all("31 m/s is above 30 m/s" in row[2] for row in rows)
    assert dry.stderr == "3 devices in 2 batches, 3 would be refused; nothing is sent\n"
    assert (await hub.run("command", "jobs", "--json")).stdout == before
    one = await hub.run("command", "send", "--to", "pump-*", "stop", "--dry-run")
    assert one.stderr == (
        "4 devices in 1 batch; nothing is sent\none batch: --stop-at has no effect; a smaller --batch makes several\n"
    )
    never = await hub.run("command", "send", "--to", "pump-*", "stop", "--dry-run", "--stop-at", "never")
    assert never.stderr == "4 devices in 1 batch; nothing is sent\n"


async def test_a_device_with_another_unit_is_named(hub: CommandedHub) -> None:
    """The warning is on stderr, and the devices are listed as without it."""
    declared = [CommandDeclaration("set_speed", parameters=[CommandParameter("speed", unit="km/h")])]
    async with command_agent(hub.url, hub.gateway, "belt", declared=declared):
        words = ["--to", "belt", "--to", "pump-0", "--to", "pump-1", "set_speed", "speed=12"]
        dry = await hub.run("command", "send", *words, "--batch", "2", "--dry-run")
    assert [line.split()[0] for line in dry.stdout.splitlines()[1:]] == ["belt", "pump-0", "pump-1"]
    warning = "warning: 1 of 3 devices takes speed in km/h instead of m/s\n"
    assert (dry.exit_code, dry.stderr) == (0, f"{warning}3 devices in 2 batches; nothing is sent\n")


async def test_a_queued_job_is_recorded_and_can_be_cancelled(hub: CommandedHub) -> None:
    """The command does not wait for it."""
    async with command_agent(hub.url, hub.gateway, "mill"):
        pass
    await until(lambda: hub.services.devices.device("mill").session is None)
    queued = await hub.run("command", "send", "--to", "mill", "stop", "--queue", "--json")
    assert queued.exit_code == 0
    id = json.loads(queued.stdout)["id"]
    cancelled = await hub.run("command", "jobs", id, "--cancel")
    assert cancelled.exit_code == 0
    assert cancelled.stdout.startswith("cancelled (by admin ")
    again = json.loads((await hub.run("command", "jobs", id, "--cancel", "--json")).stdout)
    assert (again["state"], again["id"]) == (JobState.CANCELLED, id)


async def test_a_job_that_cannot_work_is_refused(hub: CommandedHub) -> None:
    """Exit code 2 with what there is."""
    for words, problem in (
        (["--to", "other-*", "stop"], "no device in service matches other-*"),
        (
            ["--to", "pump-*", "start"],
            "none of the selected devices (4) has the command start: they have stop, set_speed, erase",
        ),
        (["--to", "pump-*", "set_speed", "speed"], "write NAME=VALUE"),
        (["--to", "pump-*", "set_speed", "speed=31"], "31 m/s is above 30 m/s"),
        (["--to", "pump-*", "erase"], "add --yes"),
        (["--to", "pump-*", "stop", "--stop-at", "200%"], "from 0% to 100%"),
        (["pump-1", "stop", "--dry-run"], "add --to"),
        (["--to", "pump-*"], "the NAME of the command is missing"),
    ):
        refused = await hub.run("command", "send", *words)
        assert (refused.exit_code, problem in refused.stderr) == (2, True), refused.stderr
    nothing = await hub.run("command", "jobs", "--cancel")
    assert (nothing.exit_code, "name the JOB" in nothing.stderr) == (2, True)
    unknown = await hub.run("command", "jobs", "f" * 32)
    assert (unknown.exit_code, "there is no job" in unknown.stderr) == (1, True)
