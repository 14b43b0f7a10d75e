"""`hub quarantine`: the messages that the running hub could not accept or store. Show, retry or delete them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from agent_client.option_group import with_option_groups
from hub.cli.client import HubClient, hub_client
from hub.cli.command import (
    FAILED,
    MISUSE,
    AsJson,
    HubOptions,
    Yes,
    bytes_text,
    cells,
    fail,
    plain_table,
    printable,
    progress_bar,
    stdout_console,
    time_text,
)
from hub.model.identity import Role
from wire.text import plural

PATH = "/api/v1/quarantine"

RETRIED = ("selected", "accepted", "readings", "refused")
"""Counts of each part of a retry."""

Device = Annotated[str | None, Option(metavar="ID", help="Only messages of this device.")]
Code = Annotated[
    str | None, Option(metavar="CODE", help="Only messages with this reason, as `hub quarantine count` shows it.")
]

app = typer.Typer(
    no_args_is_help=True,
    help="Messages that could not be accepted or stored: show them, retry them after a fix, or delete them.",
    epilog="Example:  hub quarantine count",
)


@dataclass(frozen=True)
class Choice:
    """Options that select messages for a retry or a deletion: offsets, or all that match."""

    offsets: Annotated[
        list[int] | None, Argument(metavar="OFFSET", help="As `hub quarantine list` shows them.", min=1)
    ] = None
    device: Device = None
    code: Code = None
    everything: Annotated[bool, Option("--all", help="All messages.")] = False

    def check(self, command: str) -> None:
        """End the command with 2 unless the options select in exactly one way."""
        ways = (bool(self.offsets), self.device is not None or self.code is not None, self.everything)
        if sum(ways) != 1:
            fail(command, "select by offsets, by --device and --code, or by --all: use exactly one of them", MISUSE)


@app.command("list", epilog="Example:  hub quarantine list --device boiler-1 --limit 50")
@with_option_groups
def list_messages(
    device: Device = None,
    code: Code = None,
    limit: Annotated[int, Option(min=1, help="Maximum number of messages, the newest first.")] = 20,
    as_json: AsJson = False,
    *,
    hub: HubOptions,
) -> None:
    """List the messages in quarantine, the newest first."""
    with hub_client("hub quarantine list", hub) as client:
        found, has_more = client.get_pages(PATH, "quarantine", {"device": device, "code": code}, limit)
    if as_json:
        typer.echo(json.dumps(found))
    elif found:
        stdout_console().print(_table_of_messages(found))
        if has_more:
            typer.echo(
                "there are more messages: raise --limit to list them, or count them with `hub quarantine count`",
                err=True,
            )
    else:
        _print_empty(device, code)


@app.command(epilog="Example:  hub quarantine show 4711")
@with_option_groups
def show(
    offset: Annotated[int, Argument(metavar="OFFSET", min=1, help="As `hub quarantine list` shows it.")],
    raw: Annotated[bool, Option("--raw", help="Print only the message, with the exact bytes that arrived.")] = False,
    as_json: AsJson = False,
    *,
    hub: HubOptions,
) -> None:
    """Show one message, its reason, and what to do about it."""
    with hub_client("hub quarantine show", hub) as client:
        if raw:
            with client.stream(f"{PATH}/{offset}/payload") as body:
                sys.stdout.buffer.write(body.read())
            sys.stdout.buffer.flush()
            return
        message = client.get(f"{PATH}/{offset}")
    if as_json:
        typer.echo(json.dumps(message))
        return
    facts = {
        "device": message["device"],
        "received": time_text(message["received_ns"]),
        "batch": f"seq {message['seq']} of epoch {message['epoch']}",
        "size": f"{bytes_text(message['size_bytes'])} of {message['format']}",
        "reason": f"{message['code']}: {message['message']}",
        **({"accepted": "the valid values of the batch, if it has any"} if message["partial"] else {}),
        "what to do": message["advice"],
    }
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(Text(name, style="dim"), Text(printable(value)))
    console = stdout_console()
    console.print(table)
    console.print()
    if message["values"]:
        console.print(_table_of_values(message["values"]))
        if message["readings"] > len(message["values"]):
            typer.echo(f"{plural(message['readings'] - len(message['values']), 'more value')}", err=True)
        console.print()
    if message["raw"] is not None:
        console.print(Text(printable(message["raw"])), soft_wrap=True)
        console.print()
    console.print(Text(printable(message["text"])), soft_wrap=True)
    if message["shortened"]:
        typer.echo("the message is shortened (…): --raw prints all of it", err=True)


@app.command(epilog="Example:  hub quarantine count --by device")
@with_option_groups
def count(
    by: Annotated[Literal["code", "device"], Option(help="Group by reason, or by device and reason.")] = "code",
    device: Device = None,
    code: Code = None,
    as_json: AsJson = False,
    *,
    hub: HubOptions,
) -> None:
    """Count the messages in quarantine by reason, or by device and reason."""
    with hub_client("hub quarantine count", hub) as client:
        counts = client.get(f"{PATH}/counts", {"device": device, "code": code})
    if as_json:
        typer.echo(json.dumps(counts))
        return
    if not counts["entries"]:
        _print_empty(device, code)
        return
    stdout_console().print(_table_of_codes(counts["codes"]) if by == "code" else _table_of_devices(counts["devices"]))
    if by == "device" and counts["left_out"]:
        typer.echo(f"{plural(counts['left_out'], 'more pair is', 'more pairs are')} not shown", err=True)
    if counts["dropped"]:
        dropped = plural(counts["dropped"], "older message was", "older messages were")
        typer.echo(f"{dropped} deleted, because the quarantine is bounded", err=True)


@app.command(epilog="Examples:\n\n  hub quarantine retry 4711\n\n  hub quarantine retry --code unknown_metric")
@with_option_groups
def retry(choice: Choice, as_json: AsJson = False, *, hub: HubOptions) -> None:
    """Validate messages again, against the current metrics of their devices.

    Accepted messages are stored as historical data and leave the quarantine. Rejected messages stay, with the latest
    reason, and the exit code is 1. It is also 1 if no message matches.
    """
    command = "hub quarantine retry"
    choice.check(command)
    total: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    with hub_client(command, hub, role=Role.OPERATOR) as client:
        for result in _retry(client, choice):
            total.update({name: result[name] for name in RETRIED})
            reasons += Counter(result["reasons"])
    if as_json:
        typer.echo(json.dumps({**{name: total[name] for name in RETRIED}, "reasons": dict(reasons)}))
    elif total["selected"]:
        typer.echo(f"accepted {plural(total['accepted'], 'message')} with {plural(total['readings'], 'reading')}")
        for name, number in reasons.most_common():
            typer.echo(f"{plural(number, 'stays', 'stay')} in quarantine: {printable(name)}", err=True)
    if not total["selected"]:
        fail(command, "no message in quarantine matches: nothing was retried")
    if reasons:
        raise typer.Exit(FAILED)


@app.command(epilog="Examples:\n\n  hub quarantine delete 4711\n\n  hub quarantine delete --code empty --yes")
@with_option_groups
def delete(choice: Choice, yes: Yes = False, as_json: AsJson = False, *, hub: HubOptions) -> None:
    """Delete messages. This cannot be undone."""
    command = "hub quarantine delete"
    choice.check(command)
    if not yes and not sys.stdin.isatty():
        fail(command, "a deletion cannot be undone: confirm with --yes, there is no terminal to ask", MISUSE)
    with hub_client(command, hub, role=Role.OPERATOR) as client:
        counts = _counts(client, choice)
        number = counts["entries"]
        if not yes and not typer.confirm(
            f"Delete {plural(number, 'message')} in quarantine? This cannot be undone.", err=True
        ):
            fail(command, "nothing was deleted")
        deleted = number
        if choice.offsets:
            for offset in choice.offsets:
                client.send("DELETE", f"{PATH}/{offset}")
        elif number:
            # `up_to` spares messages that arrived during the question.
            query = {"device": choice.device, "code": choice.code, "up_to": counts["newest"], "all": "true"}
            deleted = client.send("DELETE", PATH, query=query)["deleted"]
    typer.echo(json.dumps({"deleted": deleted}) if as_json else f"deleted {deleted:,}")


def _counts(client: HubClient, choice: Choice) -> dict[str, Any]:
    if choice.offsets:
        return {"entries": len(choice.offsets), "newest": max(choice.offsets)}
    counts: dict[str, Any] = client.get(f"{PATH}/counts", {"device": choice.device, "code": choice.code})
    return counts


def _retry(client: HubClient, choice: Choice) -> Iterator[dict[str, Any]]:
    """Retry the selected messages in parts and yield the result of each. Later arrivals are not retried."""
    counts = _counts(client, choice)
    columns = (TextColumn("retrying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with progress_bar(*columns, visible=counts["entries"] > 1) as progress:
        task = progress.add_task("", total=counts["entries"])
        if choice.offsets:
            for offset in choice.offsets:
                answer = client.send("POST", f"{PATH}/{offset}/retry")
                progress.advance(task)
                yield {
                    "selected": 1,
                    "accepted": int(answer["accepted"]),
                    "readings": answer["readings"],
                    "refused": int(not answer["accepted"]),
                    "reasons": {} if answer["accepted"] else {f"{answer['code']}: {answer['message']}": 1},
                }
            return
        after: int | None = 0
        while after is not None:
            request = {"device": choice.device, "code": choice.code, "after": after, "up_to": counts["newest"]}
            result = client.send("POST", f"{PATH}/retry", body=request)
            progress.advance(task, result["accepted"] + result["refused"])
            yield result
            after = result["next"]


def _print_empty(device: str | None, code: str | None) -> None:
    matching = "matching " if device is not None or code is not None else ""
    typer.echo(f"there is no {matching}message in quarantine", err=True)


def _table_of_messages(found: Sequence[dict[str, Any]]) -> Table:
    table = plain_table("offset", "received", "device", "code", "message", numbers=("offset",))
    for message in found:
        time = time_text(message["received_ns"])
        table.add_row(*cells(str(message["offset"]), time, message["device"], message["code"], message["message"]))
    return table


def _table_of_values(values: Sequence[dict[str, Any]]) -> Table:
    """Return the refused values, with the columns that are known of any of them."""
    names = [name for name in ("row", "time_ns", "reason") if any(value[name] is not None for value in values)]
    table = plain_table("metric", "value", *(name.removesuffix("_ns") for name in names), numbers=("row",))
    for value in values:
        texts = {
            "row": "" if value["row"] is None else str(value["row"]),
            "time_ns": "" if value["time_ns"] is None else time_text(value["time_ns"]),
            "reason": value["reason"] or "",
        }
        table.add_row(*cells(value["metric"], value["value"], *(texts[name] for name in names)))
    return table


def _table_of_codes(codes: Sequence[dict[str, Any]]) -> Table:
    table = plain_table(
        "code", "messages", "devices", "size", "newest", "what to do", numbers=("messages", "devices", "size")
    )
    for row in codes:
        size, newest = bytes_text(row["size_bytes"]), time_text(row["newest_ns"])
        table.add_row(*cells(row["code"], row["entries"], row["devices"], size, newest, row["advice"]))
    return table


def _table_of_devices(devices: Sequence[dict[str, Any]]) -> Table:
    table = plain_table("device", "code", "messages", "newest", numbers=("messages",))
    for row in devices:
        table.add_row(*cells(row["device"], row["code"], row["entries"], time_text(row["newest_ns"])))
    return table
