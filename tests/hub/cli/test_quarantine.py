"""`hub quarantine` with a running hub: list, show, count, retry and delete."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from typer.testing import CliRunner

from hub.cli.application import app
from tests.hub.cli.hub_command import CommandedHub, batch, commanded_hub
from wire.model import Metric


@pytest.fixture
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CommandedHub]:
    """Run a hub that has two messages of `pump` and one of `boiler` in quarantine."""
    async with commanded_hub(tmp_path_factory.mktemp("hub")) as running:
        await running.send("pump", batch(1, 1.0, metric="level"), batch(2, 2.0), batch(3, 3.0, metric="level"))
        await running.send("boiler", batch(1, 1.0, metric="heat"))
        yield running


async def test_messages_are_listed_shown_and_counted(hub: CommandedHub) -> None:
    """Newest first, with their reasons; --raw prints the bytes that arrived."""
    listed = json.loads((await hub.run("quarantine", "list", "--json")).stdout)
    assert [(m["device"], m["seq"], m["code"]) for m in listed] == [
        ("boiler", 1, "unknown_metric"), ("pump", 3, "unknown_metric"), ("pump", 1, "unknown_metric")
    ]  # fmt: skip
    shown = await hub.run("quarantine", "list", "--limit", "1")
    assert len(shown.stdout.splitlines()) == 2
    assert "there are more messages: raise --limit" in shown.stderr
    assert len((await hub.run("quarantine", "list", "--device", "pump")).stdout.splitlines()) == 3
    offset = str(listed[-1]["offset"])
    text = (await hub.run("quarantine", "show", offset)).stdout
    assert "seq 1 of epoch 0000000000000000" in text
    assert "unknown_metric: " in text
    raw = (await hub.run("quarantine", "show", offset, "--raw")).stdout
    assert json.loads(raw)["values"] == {"level": [1.0]}
    assert json.loads((await hub.run("quarantine", "show", offset, "--json")).stdout)["device"] == "pump"
    count = (await hub.run("quarantine", "count")).stdout.splitlines()[1].split()
    assert count[:3] == ["unknown_metric", "3", "2"]
    by_device = (await hub.run("quarantine", "count", "--by", "device")).stdout.splitlines()[1:]
    assert sorted(line.split()[:3] for line in by_device) == [
        ["boiler", "unknown_metric", "1"], ["pump", "unknown_metric", "2"]
    ]  # fmt: skip
    assert (await hub.run("quarantine", "show", "999")).exit_code == 1


async def test_an_empty_list_says_so(hub: CommandedHub) -> None:
    """With and without a selection, on stderr; JSON is an empty list."""
    empty = await hub.run("quarantine", "list", "--device", "none")
    assert (empty.stdout, empty.stderr) == ("", "there is no matching message in quarantine\n")
    assert (await hub.run("quarantine", "count", "--code", "none")).stderr == empty.stderr
    assert json.loads((await hub.run("quarantine", "list", "--device", "none", "--json")).stdout) == []


async def test_a_retry_accepts_what_is_valid_now(hub: CommandedHub) -> None:
    """After the metric is declared its messages leave the quarantine; the others stay, with exit code 1."""
    await hub.services.registry.declare("pump", [])
    refused = await hub.run("quarantine", "retry", "--all")
    assert (refused.exit_code, refused.stdout) == (1, "accepted 0 messages with 0 readings\n")
    assert "stay in quarantine: unknown_metric" in refused.stderr
    await hub.services.registry.declare("pump", [Metric("level")])
    done = await hub.run("quarantine", "retry", "--device", "pump", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (
        0, {"selected": 2, "accepted": 2, "readings": 2, "refused": 0, "reasons": {}}
    )  # fmt: skip
    (left,) = json.loads((await hub.run("quarantine", "list", "--json")).stdout)
    one = await hub.run("quarantine", "retry", str(left["offset"]))
    assert (left["device"], one.exit_code) == ("boiler", 1)


async def test_messages_are_deleted_by_offset_and_by_selection(hub: CommandedHub) -> None:
    """A deletion needs its confirmation, and the count is printed."""
    listed = json.loads((await hub.run("quarantine", "list", "--json")).stdout)
    refused = await hub.run("quarantine", "delete", "--all")
    assert (refused.exit_code, "confirm with --yes" in refused.stderr) == (2, True)
    done = await hub.run("quarantine", "delete", str(listed[0]["offset"]), "--yes")
    assert (done.exit_code, done.stdout) == (0, "deleted 1\n")
    gone = await hub.run("quarantine", "delete", str(listed[0]["offset"]), "--yes")
    assert gone.exit_code == 1
    done = await hub.run("quarantine", "delete", "--device", "pump", "--yes", "--json")
    assert json.loads(done.stdout) == {"deleted": 2}
    assert (await hub.run("quarantine", "delete", "--all", "--yes")).stdout == "deleted 0\n"


@pytest.mark.parametrize("command", ["retry", "delete"])
@pytest.mark.parametrize("selection", [[], ["1", "--all"], ["--all", "--device", "pump"], ["1", "--code", "empty"]])
def test_a_selection_is_made_in_exactly_one_way(command: str, selection: list[str]) -> None:
    """Otherwise nothing happens, before any request to a hub, and the exit code is 2."""
    options = ["--url", "http://127.0.0.1:9", "--token", "t"]
    result = CliRunner().invoke(app, ["quarantine", command, *selection, *options])
    assert (result.exit_code, "use exactly one of them" in result.stderr) == (2, True)


async def test_a_retry_that_selects_nothing_fails(hub: CommandedHub) -> None:
    """The API reports it as `selected`, and the command with a sentence and exit code 1; nothing is retried."""
    for selection in (("--device", "fan"), ("--code", "empty")):
        result = await hub.run("quarantine", "retry", *selection)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "no message in quarantine matches: nothing was retried" in result.stderr
    result = await hub.run("quarantine", "retry", "--device", "fan", "--json")
    assert (result.exit_code, json.loads(result.stdout)["selected"]) == (1, 0)
    result = await hub.run("quarantine", "retry", "--all", "--json")
    assert (result.exit_code, json.loads(result.stdout)["selected"]) == (1, 3)
