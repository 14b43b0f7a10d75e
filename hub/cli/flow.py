"""`hub flow`: where every batch and reading is, live in the terminal."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from hub.cli.access import hub_client
from hub.cli.client import HubClient, RequestFailed
from hub.cli.options import AsJson, Config, Data, HubOptions, Token, Url
from hub.cli.terminal import plain_table, stdout_console

COMMAND = "hub flow"
PERIOD_S = 1.0
"""Between two looks at the books."""

LINES_AROUND = 8
"""Lines of a terminal that the table of devices does not get."""

FEW_LINES = 5

Row = Mapping[str, Any]
COLUMNS = ("accepted", "/s", "stored", "/s", "waiting", "refused", "expired", "difference", "quarantined")


class Rates(NamedTuple):
    """Readings a second of one device, or of all: what comes in, and what becomes stored. None where not known yet."""

    accepted: float | None
    stored: float | None


def rates(before: Row | None, now: Row, seconds: float) -> Rates:
    """What changed between two looks at the same row. A store that has less than before has expired some: its rate
    counts both."""
    if before is None or seconds <= 0:
        return Rates(None, None)

    def dealt(row: Row) -> int | None:
        return None if row["stored"] is None else row["stored"] + (row["expired"] or 0)

    was, is_now = dealt(before), dealt(now)
    return Rates(
        max(0, now["accepted"] - before["accepted"]) / seconds,
        None if was is None or is_now is None else max(0, is_now - was) / seconds,
    )


def urgent_first(devices: Sequence[Row], rate_of: Mapping[str, Rates]) -> list[Row]:
    """The devices in the order of what is worth a look: differences, then what waits, then what is busy."""

    def key(row: Row) -> tuple[bool, int, float, str]:
        rate = rate_of[row["device"]].accepted or 0.0
        return not row["difference"], -(row["waiting"] or 0), -rate, row["device"]

    return sorted(devices, key=key)


def flow(
    once: Annotated[bool, typer.Option("--once", help="Show the books as they are now, and end.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Show where every batch and reading is: accepted, stored, waiting in the journal, refused, expired.

    What comes in is accepted = stored + waiting + refused + expired, for each device and in all; a difference is shown
    in red. With --json the books come as the hub tells them, a line each second.

    Examples:  hub flow  ·  hub flow --once --json | jq .totals
    """
    console = stdout_console()
    with hub_client(COMMAND, HubOptions(url, token, config, data)) as client:
        if as_json:
            _print_json(client, once=once)
        elif once or not sys.stdout.isatty():
            console.print(_shown(client.get("/api/v1/flow"), None, 0.0, lines=None))
        else:
            with contextlib.suppress(KeyboardInterrupt):
                _show(client, console)


def _print_json(client: HubClient, *, once: bool) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            typer.echo(json.dumps(client.get("/api/v1/flow")))
            if once:
                return
            time.sleep(PERIOD_S)


def _show(client: HubClient, console: Console) -> None:
    before: dict[str, Any] | None = None
    told = client.get("/api/v1/flow")
    at_s = time.monotonic()
    with Live(console=console, auto_refresh=False, screen=True) as live:
        seconds = 0.0
        while True:
            live.update(_shown(told, before, seconds, lines=console.height), refresh=True)
            time.sleep(PERIOD_S)
            try:
                newer = client.get("/api/v1/flow")
            except RequestFailed as failure:
                if failure.status is not None:
                    raise
                # A hub that is being restarted comes back.
                live.update(Text(str(failure), style="red"), refresh=True)
                continue
            now_s = time.monotonic()
            before, told, seconds, at_s = told, newer, now_s - at_s, now_s


def _shown(told: Row, before: Row | None, seconds: float, *, lines: int | None) -> Group:
    """The books as they are shown; `before` are those of `seconds` ago, `lines` how many there is room for."""
    old = {row["device"]: row for row in before["devices"]} if before else {}
    rate_of = {row["device"]: rates(old.get(row["device"]), row, seconds) for row in told["devices"]}
    devices = urgent_first(told["devices"], rate_of)
    room = len(devices) if lines is None else max(FEW_LINES, lines - LINES_AROUND - len(told["consumers"]))
    table = plain_table("device", *COLUMNS, numbers=COLUMNS)
    for row in devices[:room]:
        table.add_row(Text(row["device"]), *_cells(row, rate_of[row["device"]]))
    if len(devices) > room:
        table.add_row(Text(f"and {len(devices) - room} more", style="dim"))
    table.add_row(
        Text("all", style="bold"),
        *_cells(told["totals"], rates(before["totals"] if before else None, told["totals"], seconds)),
    )
    return Group(*_head(told), Text(""), table)


def _head(told: Row) -> list[Text]:
    journal, store = told["journal"], told["store"]
    lines = [
        Text(
            f"journal   offsets {journal['first_offset']} to {journal['last_offset']}, {journal['size_bytes']:,} bytes"
        )
    ]
    for consumer in told["consumers"]:
        line = Text(f"{consumer['name']:<9} at offset {consumer['offset']}, {consumer['lag']:,} batches behind")
        if consumer["name"] == "store":
            line.append(f", {store['phase']}")
            if store["error"]:
                line.append(f": {store['error']}", style="red")
        lines.append(line)
    return lines


def _cells(row: Row, rate: Rates) -> list[Text]:
    def number(value: float | None) -> Text:
        return Text("-" if value is None else f"{value:,.0f}")

    difference = row["difference"]
    return [
        number(row["accepted"]),
        number(rate.accepted),
        number(row["stored"]),
        number(rate.stored),
        *(number(row[name]) for name in ("waiting", "refused", "expired")),
        Text("-" if difference is None else f"{difference:,}", style="bold red" if difference else ""),
        number(row["quarantined_batches"]),
    ]
