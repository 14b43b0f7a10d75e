"""`hub audit`: whether the accounting equals the store, and which readings the store acknowledged and lost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from typer import Argument

from agent_client.option_group import with_option_groups
from hub.cli.client import HubClient, hub_client
from hub.cli.command import (
    FAILED,
    AsJson,
    HubOptions,
    cells,
    plain_table,
    printable,
    progress_bar,
    stdout_console,
    time_text,
)
from wire.text import plural

NUMBERS = ("accepted", "waiting", "refused", "expired", "stored", "counted")

RFC_3339 = "%Y-%m-%dT%H:%M:%SZ"

Row = Mapping[str, Any]


class AuditedLoss(NamedTuple):
    """Readings of a series that the store lost: their number, first and last time, and when the hub received the first
    batch in which one is missing."""

    device: str
    metric: str
    readings: int
    first_ns: int
    last_ns: int
    since_ns: int


def findings(answer: Row) -> list[str]:
    """Return a sentence for each difference; an empty list if everything balances."""
    found = []
    device = answer["device"]
    difference = answer["difference"]
    if difference is None:
        found.append(
            f"{device}: the hub is still counting the waiting readings, or the store is not open yet: try again"
        )
    elif difference > 0:
        found.append(
            f"{device}: {plural(difference, 'accepted reading is', 'accepted readings are')} neither stored nor "
            "waiting, refused, expired or known as damaged. Check whether a part of the data directory was lost or "
            "restored from a backup, and read the log"
        )
    elif difference < 0:
        found.append(
            f"{device}: {plural(-difference, 'more reading exists', 'more readings exist')} than were accepted"
        )
    for metric in answer["metrics"]:
        name, counted = f"{device} {metric['metric']}", metric["counted"]
        if counted < metric["stored_least"]:
            less = plural(metric["stored_least"] - counted, "reading")
            found.append(
                f"{name}: the store has {less} less than the accounting. In InfluxDB the retention of the bucket or a "
                "person deleted them, or a later reading replaced one of the same time, which the accounting "
                "counts twice. In DuckDB this is an error: report it"
            )
        elif counted > metric["stored_most"]:
            more = counted - metric["stored_most"]
            found.append(f"{name}: the store has {plural(more, 'reading')} more than the accounting")
    return found


def lacks_readings(answer: Row) -> bool:
    """Return whether the store has fewer readings of a device than were accepted or written."""
    return (answer["difference"] or 0) > 0 or any(
        metric["counted"] < metric["stored_least"] for metric in answer["metrics"]
    )


def merge_lost(parts: Sequence[Row]) -> list[AuditedLoss]:
    """Return what the store lost, by device and metric, from all parts of the comparison."""
    found: dict[tuple[str, str], AuditedLoss] = {}
    for part in parts:
        for lost in part["missing"]:
            key = (lost["device"], lost["metric"])
            known = found.get(key)
            part_range = AuditedLoss(*key, lost["readings"], lost["first_ns"], lost["last_ns"], part["received_ns"])
            found[key] = (
                part_range
                if known is None
                else known._replace(
                    readings=known.readings + lost["readings"],
                    first_ns=min(known.first_ns, lost["first_ns"]),
                    last_ns=max(known.last_ns, lost["last_ns"]),
                )
            )
    return sorted(found.values())


def lost_findings(lost: Sequence[AuditedLoss]) -> list[str]:
    """Return a sentence for each series that lost readings, and one with the next step."""
    found = [
        f"{item.device} {item.metric}: the store acknowledged and lost {plural(item.readings, 'reading')}, from "
        f"{time_text(item.first_ns, RFC_3339)} to {time_text(item.last_ns, RFC_3339)}"
        for item in lost
    ]
    if lost:
        found.append(f"the journal still has them: write them again with `{resend_command(lost)}`")
    return found


def resend_command(lost: Sequence[AuditedLoss]) -> str:
    """Return the command that writes these readings to the store again."""
    return f"hub store resend --since {time_text(min(item.since_ns for item in lost), RFC_3339)}"


@with_option_groups
def audit(
    devices: Annotated[
        list[str] | None, Argument(metavar="DEVICE", help="Device ids. Default: every device.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    *,
    hub: HubOptions,
) -> None:
    """Compare the accounting of devices with their readings in the store, which are counted one by one.

    Where the store lacks readings, they are looked up in the journal: the command lists the series and times that the
    store has lost, and how to write them again. Exits with 0 if everything balances, else with 1 and a sentence for
    each difference. Accepted readings are counted per device, stored and counted readings per metric.

    Examples:  hub audit boiler-1  ·  hub audit
    """
    with hub_client("hub audit", hub) as client:
        chosen = devices or [row["device"] for row in client.get("/api/v1/flow")["devices"]]
        columns = (TextColumn("counting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with progress_bar(*columns, visible=len(chosen) > 1) as progress:
            answers = [
                client.get(f"/api/v1/devices/{quote(device, safe='')}/audit")
                for device in progress.track(chosen, description="")
            ]
        lacking = [answer["device"] for answer in answers if lacks_readings(answer)]
        parts = compare_store(client, lacking[0] if len(lacking) == 1 else None) if lacking else []
    lost = merge_lost(parts)
    results = [
        {**answer, **_result(answer, [item for item in lost if item.device == answer["device"]])} for answer in answers
    ]
    single = devices is not None and len(devices) == 1
    if as_json:
        typer.echo(json.dumps(results[0] if single else results))
    else:
        _print(results, single=single)
    if not all(result["balanced"] for result in results):
        raise typer.Exit(FAILED)


def compare_store(client: HubClient, device: str | None) -> list[dict[str, Any]]:
    """Return every part of the comparison of the store with the journal, with a progress bar."""
    parts: list[dict[str, Any]] = []
    query: dict[str, Any] = {"device": device}
    columns = (TextColumn("comparing with the journal"), BarColumn(), TimeRemainingColumn())
    with progress_bar(*columns) as progress:
        task = progress.add_task("", total=None)
        while not parts or parts[-1]["next"] is not None:
            if parts:
                query |= {"after": parts[-1]["next"], "up_to": parts[0]["up_to"]}
            part = client.get("/api/v1/store/missing", query)
            parts.append(part)
            first, last = parts[0]["after"], part["up_to"] if part["next"] is None else part["next"]
            progress.update(task, total=part["up_to"] - first, completed=last - first)
    return parts


def _result(answer: Row, lost: Sequence[AuditedLoss]) -> dict[str, Any]:
    """Return the findings about a device, whose readings are `lost`."""
    found = findings(answer) + lost_findings(lost)
    if lacks_readings(answer) and not lost:
        found.append(
            f"{answer['device']}: the journal does not have these readings any more, or the store expired them"
        )
    return {"balanced": not found, "findings": found, "lost": [item._asdict() for item in lost]}


def _print(results: Sequence[Row], *, single: bool) -> None:
    console = stdout_console()
    if single:
        console.print(_table(results[0]))
    for result in results:
        for sentence in result["findings"]:
            console.print(Text(printable(sentence), style="red"))
    if all(result["balanced"] for result in results):
        balances = (
            f"{results[0]['device']} balances" if single else f"{plural(len(results), 'device')} audited, all balance"
        )
        console.print(f"{balances}: every accepted reading is in one place, and the store equals the accounting.")


def _table(answer: Row) -> Table:
    table = plain_table("metric", *NUMBERS, numbers=NUMBERS)
    for metric in answer["metrics"]:
        least, most, counted = metric["stored_least"], metric["stored_most"], metric["counted"]
        agrees = least <= counted <= most
        table.add_row(
            *cells(metric["metric"], "", "", metric["refused"], metric["expired"]),
            f"{least:,}" if least == most else f"{least:,} to {most:,}",
            Text(f"{counted:,}", style="" if agrees else "bold red"),
        )
    whole = [
        "-" if answer[name] is None else f"{answer[name]:,}" for name in ("waiting", "refused", "expired", "stored")
    ]
    counted = sum(metric["counted"] for metric in answer["metrics"])
    table.add_row(Text("all", style="bold"), f"{answer['accepted']:,}", *whole, f"{counted:,}")
    return table
