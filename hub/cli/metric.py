"""`hub metric`: list the metrics of a device, and change their types, names, units and descriptions."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table
from typer import Argument, Option

from agent_client.option_group import with_option_groups
from hub.cli.client import hub_client
from hub.cli.command import MISUSE, AsJson, HubOptions, cells, fail, plain_table, printable, stdout_console
from hub.model.identity import Role
from wire.model import MetricType
from wire.text import plural

app = typer.Typer(
    no_args_is_help=True,
    help="List the metrics of a device, and correct their types, names, units and descriptions.",
    epilog="Example:  hub metric retype boiler-1 level float",
)

Device = Annotated[str, Argument(metavar="DEVICE", help="Id of the device.")]
MetricArgument = Annotated[str, Argument(metavar="METRIC", help="Name of the metric, also an earlier one.")]


@app.command("list", epilog="Example:  hub metric list boiler-1")
@with_option_groups
def list_metrics(device: Device, as_json: AsJson = False, *, hub: HubOptions) -> None:
    """List the metrics of a device, with the names and types that they had before."""
    with hub_client("hub metric list", hub) as client:
        found, _ = client.get_pages(_path(device), "metrics", {})
    if as_json:
        typer.echo(json.dumps(found))
    elif found:
        stdout_console().print(_table(found))
    else:
        typer.echo(f"{printable(device)} has not declared a metric yet", err=True)


@app.command(epilog="Example:  hub metric retype boiler-1 level float")
@with_option_groups
def retype(
    device: Device,
    metric: MetricArgument,
    type: Annotated[MetricType, Argument(metavar="TYPE", help="float, integer, boolean or string.")],
    as_json: AsJson = False,
    *,
    hub: HubOptions,
) -> None:
    """Change the type of a metric. Readings that are stored stay readable as they are.

    New readings must have the new type. The device's messages in quarantine that may be acceptable now are retried. A
    change from integer to float needs no command: the first float does it.
    """
    _change("hub metric retype", device, metric, {"type": type}, as_json, hub)


@app.command(epilog="Example:  hub metric rename boiler-1 t1 'flow temperature'")
@with_option_groups
def rename(
    device: Device,
    metric: MetricArgument,
    name: Annotated[str, Argument(metavar="NAME", help="The new name.")],
    as_json: AsJson = False,
    *,
    hub: HubOptions,
) -> None:
    """Rename a metric, with all of its history.

    A device that still sends the old name continues to be understood. No other metric of it can get that name.
    """
    _change("hub metric rename", device, metric, {"name": name}, as_json, hub)


@app.command(epilog="Example:  hub metric describe boiler-1 level --unit cm --description 'above the bottom'")
@with_option_groups
def describe(
    device: Device,
    metric: MetricArgument,
    unit: Annotated[str | None, Option(metavar="TEXT", help="The unit to show, for example °C.")] = None,
    description: Annotated[str | None, Option(metavar="TEXT", help="What the metric is.")] = None,
    as_json: AsJson = False,
    *,
    hub: HubOptions,
) -> None:
    """Set the unit or the description of a metric. What the device declares does not change it any more."""
    command = "hub metric describe"
    change = {name: text for name, text in (("unit", unit), ("description", description)) if text is not None}
    if not change:
        fail(command, "name what to set: --unit or --description", MISUSE)
    _change(command, device, metric, change, as_json, hub)


def _change(command: str, device: str, metric: str, change: dict[str, Any], as_json: bool, hub: HubOptions) -> None:
    with hub_client(command, hub, role=Role.ADMIN) as client:
        answer = client.send("PATCH", _path(device), body={"metric": metric, **change})
    if as_json:
        typer.echo(json.dumps(answer))
        return
    stdout_console().print(_table([answer["metric"]]))
    retried = answer["retried"]
    if retried["accepted"]:
        typer.echo(
            f"accepted {plural(retried['accepted'], 'message')} from quarantine with "
            f"{plural(retried['readings'], 'reading')}"
        )
    for code, number in retried["reasons"].items():
        typer.echo(f"{plural(number, 'message stays', 'messages stay')} in quarantine: {printable(code)}", err=True)
    if retried["next"] is not None:
        typer.echo(
            f"more messages are in quarantine: run `hub quarantine retry --device {printable(device)}`", err=True
        )


def _path(device: str) -> str:
    return f"/api/v1/devices/{quote(device, safe='')}/metrics"


def _table(metrics: list[dict[str, Any]]) -> Table:
    table = plain_table("metric", "type", "unit", "earlier names", "earlier types", "description")
    for metric in metrics:
        earlier = (", ".join(metric[name]) for name in ("earlier_names", "earlier_types"))
        table.add_row(*cells(metric["metric"], metric["type"], metric["unit"], *earlier, metric["description"]))
    return table
