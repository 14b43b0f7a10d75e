"""`hub device`: the devices of a running hub, and how those that are gone for good leave its fleet."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from hub.cli.access import hub_client
from hub.cli.client import HubClient
from hub.cli.exit import FAILED, MISUSE, fail
from hub.cli.options import AsJson, Config, Data, HubOptions, Token, Url
from hub.cli.terminal import plain_table, printable, stdout_console, time_text
from hub.cli.token import life_ns
from hub.model.identity import Role

PATH = "/api/v1/devices"
SHOWN = 20
"""Ids that a question names."""

app = typer.Typer(no_args_is_help=True, help="The devices of a running hub: list them, or retire those that are gone.")


@app.command("list", epilog="Example:  hub device list --json | jq -r '.[] | select(.connected | not).device'")
def list_devices(
    as_json: AsJson = False, url: Url = None, token: Token = None, config: Config = None, data: Data = None
) -> None:
    """List the devices in service, with their state and when they sent last."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    with hub_client("hub device list", HubOptions(url, token, config, data)) as client:
        while True:
            page = client.get(PATH, {"cursor": cursor})
            found += page["devices"]
            cursor = page["next"]
            if cursor is None:
                break
    if as_json:
        typer.echo(json.dumps(found))
    elif found:
        stdout_console().print(_table(found))
    else:
        typer.echo("no device yet; `hub token create --role device --device NAME` lets one in", err=True)


@app.command(
    epilog=(
        "Examples:\n\n"
        "  hub device retire boiler-1\n\n"
        "  hub device retire 'test-*' --yes\n\n"
        "  hub device retire '*' --unseen 90d"
    )
)
def retire(
    devices: Annotated[list[str], typer.Argument(metavar="DEVICE", help="Ids; `*` stands for any run of characters.")],
    unseen: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only those that sent nothing for so long: 12h, 30d, 4w.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Retire devices: they leave the fleet and Home Assistant, and make room for others.

    Their history, their books and their names stay. A device that sends again is back by itself; to keep it out, revoke
    its token.
    """
    command = "hub device retire"
    if not yes and not sys.stdin.isatty():
        fail(command, "say --yes where nobody can be asked", MISUSE)
    asked: dict[str, Any] = {"devices": devices}
    if unseen is not None:
        asked["unseen_since_ns"] = time.time_ns() - life_ns(unseen)
    with hub_client(command, HubOptions(url, token, config, data), role=Role.OPERATOR) as client:
        chosen = _send(client, {**asked, "dry_run": True})
        if not chosen["count"]:
            fail(command, f"no device in service is meant by {', '.join(map(printable, devices))}")
        if not yes and not typer.confirm(f"Retire {_named(chosen['devices'], chosen['count'])}?", err=True):
            fail(command, "nothing was retired", FAILED)
        done = _send(client, asked)
    if as_json:
        typer.echo(json.dumps(done))
        return
    typer.echo(f"retired {done['count']:,}")
    if done["connected"]:
        typer.echo(f"{done['connected']:,} of them are connected: they are back with the next that they send", err=True)


def _send(client: HubClient, asked: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = client.send("POST", f"{PATH}/retire", body=asked)
    return answer


def _named(devices: Sequence[str], count: int) -> str:
    named = ", ".join(devices[:SHOWN])
    return named if count <= SHOWN else f"{count:,} devices ({named}, …)"


def _table(devices: Sequence[dict[str, Any]]) -> Table:
    table = plain_table("device", "state", "last seen (UTC)", "metrics", "agent", numbers={"metrics"})
    for device in devices:
        cells = (
            device["device"],
            "online" if device["connected"] else "offline",
            time_text(device["seen"]) if device["seen"] else "never",
            f"{len(device['metrics']):,}",
            printable(device["agent"]),
        )
        table.add_row(*map(Text, cells))
    return table
