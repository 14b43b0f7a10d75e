"""`hub device`: list the devices of a running hub, and retire devices that no longer exist."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table
from typer import Argument, Option

from agent_client.option_group import with_option_groups
from hub.cli.client import hub_client
from hub.cli.command import (
    MISUSE,
    AsJson,
    HubOptions,
    Yes,
    cells,
    fail,
    plain_table,
    printable,
    stdout_console,
    time_text,
)
from hub.cli.token import duration_ns
from hub.model.identity import Role
from wire.text import plural

PATH = "/api/v1/devices"
MAX_SHOWN = 20
"""Device ids in the question for confirmation."""

MAX_STALE_NAMES = 3
"""Stale metrics that the list names; of more it has the number."""

STATES = ("connected", "reconnecting", "silent", "offline", "unconnected", "stale")
"""States that `--state` selects, as the address of the fleet on the page."""

app = typer.Typer(
    no_args_is_help=True,
    help="List the devices of a running hub, and retire devices that no longer exist.",
    epilog="Example:  hub device list",
)


@app.command("list", epilog="Example:  hub device list --json | jq -r '.[] | select(.connected | not).device'")
@with_option_groups
def list_devices(
    state: Annotated[
        list[str] | None,
        Option("--state", metavar="STATE", help=f"Only devices in this state: {', '.join(STATES)}; repeatable."),
    ] = None,
    as_json: AsJson = False,
    *,
    hub: HubOptions,
) -> None:
    """List the devices in service, with their presence and since when, their last contact and their newest reading."""
    states = {*(state or STATES)}
    if unknown := states.difference(STATES):
        fail("hub device list", f"--state {min(unknown)}: the states are {', '.join(STATES)}", MISUSE)
    with hub_client("hub device list", hub) as client:
        found, _ = client.get_pages(PATH, "devices", {})
    selected = [device for device in found if device["presence"] in states or (device["stale"] and "stale" in states)]
    if as_json:
        typer.echo(json.dumps(selected))
    elif selected:
        stdout_console().print(_table(selected))
    elif found:
        typer.echo("no device is in this state", err=True)
    else:
        typer.echo(
            "there is no device yet: `hub token create --role device --device NAME` creates a token for one", err=True
        )


@app.command(
    epilog=(
        "Examples:\n\n"
        "  hub device retire boiler-1\n\n"
        "  hub device retire 'test-*' --yes\n\n"
        "  hub device retire '*' --unseen 90d"
    )
)
@with_option_groups
def retire(
    devices: Annotated[list[str], Argument(metavar="DEVICE", help="Device ids; `*` matches any characters.")],
    unseen: Annotated[
        str | None, Option(metavar="TIME", help="Only devices without a contact for this time: 12h, 30d, 4w.")
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
    *,
    hub: HubOptions,
) -> None:
    """Retire devices: remove them from the fleet and from Home Assistant, which makes room for others.

    Their history, accounting and names stay. A device that sends again returns to service; revoke its token to prevent
    that.
    """
    command = "hub device retire"
    if not yes and not sys.stdin.isatty():
        fail(command, "confirm with --yes: there is no terminal to ask", MISUSE)
    request: dict[str, Any] = {"devices": devices}
    if unseen is not None:
        request["unseen_since_ns"] = time.time_ns() - duration_ns(unseen)
    with hub_client(command, hub, role=Role.OPERATOR) as client:
        chosen = client.send("POST", f"{PATH}/retire", body={**request, "dry_run": True})
        if not chosen["count"]:
            fail(command, f"no device in service matches {', '.join(map(printable, devices))}")
        if not yes and not typer.confirm(f"Retire {_named(chosen['devices'], chosen['count'])}?", err=True):
            fail(command, "nothing was retired")
        retired = client.send("POST", f"{PATH}/retire", body=request)
    if as_json:
        typer.echo(json.dumps(retired))
        return
    typer.echo(f"retired {retired['count']:,}")
    if retired["connected"]:
        typer.echo(
            f"{plural(retired['connected'], 'of them is', 'of them are')} connected: the next message of a device "
            "returns it to service",
            err=True,
        )


def _named(devices: Sequence[str], count: int) -> str:
    named = ", ".join(devices[:MAX_SHOWN])
    return named if count <= MAX_SHOWN else f"{plural(count, 'device')} ({named}, …)"


def _table(devices: Sequence[dict[str, Any]]) -> Table:
    """Return the table of the devices. Imported readings are older than their arrival, which is the contact."""
    times = "since (UTC)", "last seen (UTC)", "last reading (UTC)"
    table = plain_table("device", "presence", *times, "metrics", "agent", numbers={"metrics"})
    for device in devices:
        state = "no agent" if device["presence"] == "unconnected" else device["presence"]
        presence = state + stale_text(device["stale"])
        since = time_text(device["presence_since"]) if device["presence_since"] else ""
        seen = time_text(device["seen"]) if device["seen"] else "never"
        newest = [metric["latest"]["time_ns"] for metric in device["metrics"] if metric["latest"]]
        reading = time_text(max(newest)) if newest else "unknown" if device["metrics"] else "never"
        table.add_row(*cells(device["device"], presence, since, seen, reading, len(device["metrics"]), device["agent"]))
    return table


def stale_text(stale: Sequence[str]) -> str:
    """Return the names of a device's stale metrics, or how many they are, to follow its state."""
    if len(stale) > MAX_STALE_NAMES:
        return f", {len(stale)} stale"
    return f", stale: {', '.join(stale)}" if stale else ""
