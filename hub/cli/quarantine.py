"""`hub quarantine`: what the running hub could not accept or store, why, and what is done about it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from hub.cli.access import hub_client
from hub.cli.client import HubClient
from hub.cli.exit import FAILED, MISUSE, fail
from hub.cli.options import AsJson, Config, Data, HubOptions, Token, Url
from hub.cli.terminal import bytes_text, plain_table, printable, progress_bar, stdout_console, time_text
from hub.model.identity import Role

PATH = "/api/v1/quarantine"
PAGE = 100
"""Messages asked for at once: the most that the hub tells."""

Device = Annotated[str | None, typer.Option(metavar="ID", help="Only of this device.")]
Code = Annotated[
    str | None, typer.Option(metavar="CODE", help="Only with this reason, as `hub quarantine count` names.")
]
Offsets = Annotated[
    list[int] | None, typer.Argument(metavar="OFFSET", help="As `hub quarantine list` shows them.", min=1)
]
Everything = Annotated[bool, typer.Option("--all", help="All there are.")]

app = typer.Typer(
    no_args_is_help=True,
    help="What could not be accepted or stored: read it, retry it when the cause is put right, or delete it.",
)


class Choice(NamedTuple):
    """What a retry or a deletion is meant for: these offsets, or all that match."""

    offsets: list[int]
    device: str | None
    code: str | None


@app.command("list", epilog="Example:  hub quarantine list --device boiler-1 --limit 50")
def list_messages(
    device: Device = None,
    code: Code = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """List what is in quarantine, the newest first."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    with hub_client("hub quarantine list", HubOptions(url, token, config, data)) as client:
        while len(found) < limit:
            part = min(PAGE, limit - len(found))
            page = client.get(PATH, {"device": device, "code": code, "limit": part, "cursor": cursor})
            found += page["quarantine"]
            cursor = page["next"]
            if cursor is None:
                break
    if as_json:
        typer.echo(json.dumps(found))
    elif found:
        stdout_console().print(_table_of_messages(found))
        if cursor is not None:
            typer.echo("there are more: --limit shows them, `hub quarantine count` counts them", err=True)
    else:
        _say_empty(device, code)


@app.command(epilog="Example:  hub quarantine show 4711")
def show(
    offset: Annotated[int, typer.Argument(metavar="OFFSET", min=1, help="As `hub quarantine list` shows it.")],
    raw: Annotated[bool, typer.Option("--raw", help="The message alone, byte by byte as it came.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Show one message with its reason, and what can be done about it."""
    with hub_client("hub quarantine show", HubOptions(url, token, config, data)) as client:
        if raw:
            with client.stream(f"{PATH}/{offset}/payload") as body:
                sys.stdout.buffer.write(body.read())
            sys.stdout.buffer.flush()
            return
        one = client.get(f"{PATH}/{offset}")
    if as_json:
        typer.echo(json.dumps(one))
        return
    facts = {
        "device": one["device"],
        "received": time_text(one["received_ns"]),
        "batch": f"seq {one['seq']} of epoch {one['epoch']}",
        "size": f"{bytes_text(one['size_bytes'])} of {one['format']}",
        "reason": f"{one['code']}: {one['message']}",
        "what to do": one["advice"],
    }
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(Text(name, style="dim"), Text(printable(value)))
    console = stdout_console()
    console.print(table)
    console.print()
    console.print(Text(printable(one["text"])), soft_wrap=True)
    if one["shortened"]:
        typer.echo("something is left out (…); --raw gives all of it", err=True)


@app.command(epilog="Example:  hub quarantine count --by device")
def count(
    by: Annotated[Literal["code", "device"], typer.Option(help="What to count by.")] = "code",
    device: Device = None,
    code: Code = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Count what is in quarantine by reason, or by device and reason."""
    with hub_client("hub quarantine count", HubOptions(url, token, config, data)) as client:
        counts = client.get(f"{PATH}/counts", {"device": device, "code": code})
    if as_json:
        typer.echo(json.dumps(counts))
        return
    if not counts["entries"]:
        _say_empty(device, code)
        return
    stdout_console().print(_table_of_codes(counts["codes"]) if by == "code" else _table_of_devices(counts["devices"]))
    if by == "device" and counts["left_out"]:
        typer.echo(f"{counts['left_out']} more pairs of device and reason are not shown", err=True)
    if counts["dropped"]:
        typer.echo(f"{counts['dropped']} older ones had to leave, because the quarantine is bounded", err=True)


@app.command(epilog="Examples:\n\n  hub quarantine retry 4711\n\n  hub quarantine retry --code unknown_metric")
def retry(
    offsets: Offsets = None,
    device: Device = None,
    code: Code = None,
    everything: Everything = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Judge messages again, with their devices' metrics of now.

    What is accepted is stored as historical data and leaves the quarantine; what is not stays, with the newest reason,
    and the exit code is 1.
    """
    command = "hub quarantine retry"
    choice = _choice(command, offsets, device, code, everything=everything)
    total: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    with hub_client(command, HubOptions(url, token, config, data), role=Role.OPERATOR) as client:
        for round_ in _rounds(client, choice):
            total += Counter({name: round_[name] for name in ("accepted", "readings", "refused")})
            reasons += Counter(round_["reasons"])
    if as_json:
        counted = {name: total[name] for name in ("accepted", "readings", "refused")}
        typer.echo(json.dumps({**counted, "reasons": dict(reasons)}))
    else:
        typer.echo(f"accepted {total['accepted']:,} with {total['readings']:,} readings")
        for name, number in reasons.most_common():
            typer.echo(f"{number:,} stay: {printable(name)}", err=True)
    if reasons:
        raise typer.Exit(FAILED)


@app.command(epilog="Examples:\n\n  hub quarantine delete 4711\n\n  hub quarantine delete --code empty --yes")
def delete(
    offsets: Offsets = None,
    device: Device = None,
    code: Code = None,
    everything: Everything = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Delete messages for good."""
    command = "hub quarantine delete"
    choice = _choice(command, offsets, device, code, everything=everything)
    if not yes and not sys.stdin.isatty():
        fail(command, "this deletes for good: say --yes where nobody can be asked", MISUSE)
    with hub_client(command, HubOptions(url, token, config, data), role=Role.OPERATOR) as client:
        counts = _counts(client, choice)
        number = len(choice.offsets) or counts["entries"]
        if not yes and not typer.confirm(f"Delete {number:,} of the quarantine for good?", err=True):
            fail(command, "nothing was deleted")
        deleted = 0
        if choice.offsets:
            for offset in choice.offsets:
                client.send("DELETE", f"{PATH}/{offset}")
                deleted += 1
        elif number:
            # Not what came while the question was open.
            query = {"device": device, "code": code, "up_to": counts["newest"], "all": "true"}
            deleted = client.send("DELETE", PATH, query=query)["deleted"]
    typer.echo(json.dumps({"deleted": deleted}) if as_json else f"deleted {deleted:,}")


def _choice(
    command: str, offsets: list[int] | None, device: str | None, code: str | None, *, everything: bool
) -> Choice:
    """What is meant; ends the command with 2 where that is nothing, or two things."""
    ways = (bool(offsets), device is not None or code is not None, everything)
    if sum(ways) != 1:
        fail(command, "name offsets, or --device and --code, or --all: one of the three", MISUSE)
    return Choice(offsets or [], device, code)


def _counts(client: HubClient, choice: Choice) -> dict[str, Any]:
    if choice.offsets:
        return {"entries": len(choice.offsets), "newest": max(choice.offsets)}
    counts: dict[str, Any] = client.get(f"{PATH}/counts", {"device": choice.device, "code": choice.code})
    return counts


def _rounds(client: HubClient, choice: Choice) -> Iterator[dict[str, Any]]:
    """Retries all that is meant, a part at a time; what comes meanwhile is left alone."""
    counts = _counts(client, choice)
    columns = (TextColumn("retrying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with progress_bar(*columns, worth_it=counts["entries"] > 1) as progress:
        task = progress.add_task("", total=counts["entries"])
        if choice.offsets:
            for offset in choice.offsets:
                one = client.send("POST", f"{PATH}/{offset}/retry")
                progress.advance(task)
                yield {
                    "accepted": int(one["accepted"]),
                    "readings": one["readings"],
                    "refused": int(not one["accepted"]),
                    "reasons": {} if one["accepted"] else {f"{one['code']}: {one['message']}": 1},
                }
            return
        after: int | None = 0
        while after is not None:
            asked = {"device": choice.device, "code": choice.code, "after": after, "up_to": counts["newest"]}
            done = client.send("POST", f"{PATH}/retry", body=asked)
            progress.advance(task, done["accepted"] + done["refused"])
            yield done
            after = done["next"]


def _say_empty(device: str | None, code: str | None) -> None:
    filtered = " of that kind" if device is not None or code is not None else ""
    typer.echo(f"nothing{filtered} is in quarantine", err=True)


def _table_of_messages(found: Sequence[dict[str, Any]]) -> Table:
    table = plain_table("offset", "received", "device", "code", "message", numbers=("offset",))
    for one in found:
        time = time_text(one["received_ns"])
        table.add_row(*_cells(str(one["offset"]), time, one["device"], one["code"], one["message"]))
    return table


def _table_of_codes(codes: Sequence[dict[str, Any]]) -> Table:
    table = plain_table(
        "code", "messages", "devices", "size", "newest", "what to do", numbers=("messages", "devices", "size")
    )
    for one in codes:
        size, newest = bytes_text(one["size_bytes"]), time_text(one["newest_ns"])
        table.add_row(*_cells(one["code"], one["entries"], one["devices"], size, newest, one["advice"]))
    return table


def _table_of_devices(devices: Sequence[dict[str, Any]]) -> Table:
    table = plain_table("device", "code", "messages", "newest", numbers=("messages",))
    for one in devices:
        table.add_row(*_cells(one["device"], one["code"], one["entries"], time_text(one["newest_ns"])))
    return table


def _cells(*values: object) -> list[Text]:
    # As text, so that a message with brackets in it is shown as it is.
    return [Text(f"{value:,}" if isinstance(value, int) else printable(str(value))) for value in values]
