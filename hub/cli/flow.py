"""`hub flow`: where every batch and reading is."""

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
from typer import Option

from agent_client.option_group import with_option_groups
from hub.cli.client import HubClient, RequestFailed, hub_client
from hub.cli.command import AsJson, HubOptions, plain_table, printable, stdout_console
from wire.text import plural

PERIOD_S = 1.0
"""Interval between two requests."""

LINES_AROUND = 8
"""Lines of the terminal outside the table of devices."""

MIN_LINES = 5

Row = Mapping[str, Any]
COLUMNS = ("accepted", "/s", "stored", "/s", "waiting", "refused", "expired", "difference", "quarantined", "batches")

LOSSES = (("damaged", "damaged"), ("repaired", "repaired_batches"))
"""Columns that are shown if the journal has lost something, and their fields."""

UNREAD = (("unread", "source_refused"),)
"""Column that is shown if sources refused something before it was sent, and its field."""


class FlowRates(NamedTuple):
    """Readings per second of one device or of all: accepted and stored. None if not known yet."""

    accepted: float | None
    stored: float | None


def rates(before: Row | None, now: Row, seconds: float) -> FlowRates:
    """Return the rates between two answers for the same row. The rate of stored readings includes expired ones."""
    if before is None or seconds <= 0:
        return FlowRates(None, None)

    def written(row: Row) -> int | None:
        return None if row["stored"] is None else row["stored"] + (row["expired"] or 0)

    was, is_now = written(before), written(now)
    return FlowRates(
        max(0, now["accepted"] - before["accepted"]) / seconds,
        None if was is None or is_now is None else max(0, is_now - was) / seconds,
    )


def urgent_first(devices: Sequence[Row], rate_of: Mapping[str, FlowRates]) -> list[Row]:
    """Return the devices by urgency: those with a difference, then by waiting readings, then by rate."""

    def key(row: Row) -> tuple[bool, int, float, str]:
        rate = rate_of[row["device"]].accepted or 0.0
        return not row["difference"], -(row["waiting"] or 0), -rate, row["device"]

    return sorted(devices, key=key)


@with_option_groups
def flow(
    once: Annotated[bool, Option("--once", help="Print the current numbers once and exit.")] = False,
    as_json: AsJson = False,
    *,
    hub: HubOptions,
) -> None:
    """Show where every batch and reading is: accepted, stored, waiting in the journal, refused, expired, damaged.

    For each device and in all, accepted = stored + waiting + refused + expired + damaged; a difference is shown in red.
    The column quarantined counts readings that were not accepted: accepted + quarantined is what was received. The
    column batches counts the entries in quarantine that contain them: batches, parts of batches, frames and requests.
    The columns damaged (readings that the disk lost before they were stored) and repaired (batches that the hub had
    lost and an agent sent again) appear if the journal has lost something; the column unread (lines and values that a
    source refused before its agent could send them) if there are any. With --json each second prints one line with the
    answer of the hub.

    Examples:  hub flow  ·  hub flow --once --json | jq .totals  ·  hub flow --once | grep kiln-1
    """
    console = stdout_console()
    with hub_client("hub flow", hub) as client:
        if as_json:
            _print_json(client, once=once)
        elif once or not sys.stdout.isatty():
            console.print(_screen(client.get("/api/v1/flow"), None, 0.0, lines=None))
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
    answer = client.get("/api/v1/flow")
    at_s = time.monotonic()
    with Live(console=console, auto_refresh=False, screen=True) as live:
        seconds = 0.0
        while True:
            live.update(_screen(answer, before, seconds, lines=console.height), refresh=True)
            time.sleep(PERIOD_S)
            try:
                newer = client.get("/api/v1/flow")
            except RequestFailed as failure:
                if failure.status is not None:
                    raise
                # The hub may be restarting: try again.
                live.update(Text(str(failure), style="red"), refresh=True)
                continue
            now_s = time.monotonic()
            before, answer, seconds, at_s = answer, newer, now_s - at_s, now_s


def _screen(answer: Row, before: Row | None, seconds: float, *, lines: int | None) -> Group:
    """Return the screen for an answer. `before` is the answer of `seconds` ago; `lines` is the height, None for all."""
    old = {row["device"]: row for row in before["devices"]} if before else {}
    rate_of = {row["device"]: rates(old.get(row["device"]), row, seconds) for row in answer["devices"]}
    devices = urgent_first(answer["devices"], rate_of)
    room = len(devices) if lines is None else max(MIN_LINES, lines - LINES_AROUND - len(answer["consumers"]))
    groups = (LOSSES, UNREAD)
    losses = tuple(column for group in groups if any(answer["totals"][field] for _, field in group) for column in group)
    columns = (*COLUMNS, *(name for name, _ in losses))
    table = plain_table("device", *columns, numbers=columns)
    for row in devices[:room]:
        table.add_row(Text(row["device"]), *_cells(row, rate_of[row["device"]], losses))
    if len(devices) > room:
        table.add_row(Text(f"and {len(devices) - room} more", style="dim"))
    table.add_row(
        Text("all", style="bold"),
        *_cells(answer["totals"], rates(before["totals"] if before else None, answer["totals"], seconds), losses),
    )
    return Group(*_head(answer), Text(""), table)


def _head(answer: Row) -> list[Text]:
    journal, store = answer["journal"], answer["store"]
    lines = [
        Text(
            f"journal   offsets {journal['first_offset']} to {journal['last_offset']}, {journal['size_bytes']:,} bytes"
        )
    ]
    for consumer in answer["consumers"]:
        behind = plural(consumer["lag"], "batch", "batches")
        line = Text(f"{consumer['name']:<9} at offset {consumer['offset']}, {behind} behind")
        if consumer["name"] == "store":
            line.append(f", {store['phase']}")
            if store["error"]:
                line.append(printable(f": {store['error']}"), style="red")
        lines.append(line)
    return lines


def _cells(row: Row, rate: FlowRates, losses: Sequence[tuple[str, str]]) -> list[Text]:
    def number(value: float | None) -> Text:
        return Text("-" if value is None else f"{value:,.0f}")

    difference = row["difference"]
    return [
        *map(number, (row["accepted"], rate.accepted, row["stored"], rate.stored)),
        *(number(row[name]) for name in ("waiting", "refused", "expired")),
        Text("-" if difference is None else f"{difference:,}", style="bold red" if difference else ""),
        number(row["quarantined"]),
        number(row["quarantined_batches"]),
        *(number(row[field]) for _, field in losses),
    ]
