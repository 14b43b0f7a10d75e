"""`hub audit`: whether a device's books agree with what the store has, reading by reading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.text import Text

from hub.cli.access import hub_client
from hub.cli.exit import FAILED
from hub.cli.options import AsJson, Config, Data, HubOptions, Token, Url
from hub.cli.terminal import plain_table, stdout_console

COMMAND = "hub audit"
NUMBERS = ("accepted", "waiting", "refused", "expired", "stored", "counted")

Told = Mapping[str, Any]


def findings(told: Told) -> list[str]:
    """What does not balance, a sentence each; nothing where all does."""
    found = []
    device = told["device"]
    difference = told["difference"]
    if difference is None:
        found.append(
            f"{device}: what waits for the store is still being counted, or the store was not open yet: ask again"
        )
    elif difference > 0:
        found.append(
            f"{device}: {difference:,} accepted readings are neither stored nor waiting, refused or expired. Was a "
            "part of the data directory lost, or put back from a copy? The quarantine and the log may tell"
        )
    elif difference < 0:
        found.append(f"{device}: there are {-difference:,} readings more than were accepted")
    for metric in told["metrics"]:
        name, counted = f"{device} {metric['metric']}", metric["counted"]
        if counted < metric["stored_least"]:
            found.append(
                f"{name}: the store has {metric['stored_least'] - counted:,} readings less than the books say. In "
                "InfluxDB that is what the bucket's retention or somebody deleted, and late readings that came for "
                "times that were taken: it keeps the later one, the books count both. In DuckDB it must not be"
            )
        elif counted > metric["stored_most"]:
            found.append(f"{name}: the store has {counted - metric['stored_most']:,} readings more than the books say")
    return found


def audit(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="The device's id.", show_default=False)],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Compare a device's books with what the store has, counted reading by reading.

    Ends with 0 where everything balances, with 1 and a sentence for each difference where it does not. Accepted are
    readings of the device, stored and counted are told for each metric.

    Example:  hub audit boiler-1
    """
    with hub_client(COMMAND, HubOptions(url, token, config, data)) as client:
        told = client.get(f"/api/v1/devices/{quote(device, safe='')}/audit")
    found = findings(told)
    if as_json:
        typer.echo(json.dumps({**told, "balanced": not found, "findings": found}))
    else:
        _print(told, found)
    if found:
        raise typer.Exit(FAILED)


def _print(told: Told, found: list[str]) -> None:
    console = stdout_console()
    table = plain_table("metric", *NUMBERS, numbers=NUMBERS)
    for metric in told["metrics"]:
        least, most, counted = metric["stored_least"], metric["stored_most"], metric["counted"]
        agrees = least <= counted <= most
        table.add_row(
            Text(metric["metric"]),
            "",
            "",
            f"{metric['refused']:,}",
            f"{metric['expired']:,}",
            f"{least:,}" if least == most else f"{least:,} to {most:,}",
            Text(f"{counted:,}", style="" if agrees else "bold red"),
        )
    whole = ["-" if told[name] is None else f"{told[name]:,}" for name in ("waiting", "refused", "expired", "stored")]
    counted = sum(metric["counted"] for metric in told["metrics"])
    table.add_row(Text("all", style="bold"), f"{told['accepted']:,}", *whole, f"{counted:,}")
    console.print(table)
    for sentence in found:
        console.print(Text(sentence, style="red"))
    if not found:
        console.print(
            f"{told['device']} balances: every accepted reading is in one place, and the store has what the books say."
        )
