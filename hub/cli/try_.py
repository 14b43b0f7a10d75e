"""`hub try`: read a file or standard input as every input of the hub would, and store nothing."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument

from agent_client.option_group import with_option_groups
from agent_client.rule_options import InputOptions, zone_of
from formats.container import MAX_CONTENT_BYTES, unpacked
from formats.reading import Reading
from formats.record import FrameRefused
from formats.report import Trial
from formats.rules import RulesError
from hub.cli.command import FAILED, MISUSE, AsJson, fail

COMMAND = "hub try"

BLOCK_BYTES = 1 << 20
"""Bytes that are read at a time."""


@with_option_groups
def try_input(
    file: Annotated[str, Argument(metavar="FILE|-", help="File, also compressed, or - for standard input.")],
    as_json: AsJson = False,
    *,
    options: InputOptions,
) -> None:
    """Read a file or standard input as every input of the hub would, and store nothing.

    The output has the format and why it was chosen, the readings, each refused value with the setting that changes the
    decision, the rules that decided, and the settings to copy. No hub is needed. The exit code is 1 if something was
    refused.

    Examples:  hub try log.csv  ·  hub try - < capture.txt  ·  hub try log.csv --zone Europe/Berlin --device boiler-1
    """
    try:
        rules, function = options.to_rules(), options.load_function()
    except RulesError as error:
        fail(COMMAND, str(error), MISUSE)
    data = _content(file)
    try:
        data, container = unpacked(data)
    except FrameRefused as error:
        fail(COMMAND, f"{file}: {error.reason}")
    reading = Reading(rules, zone_of(rules.zone), function=function)
    trial = Trial(reading)
    now_ns = time.time_ns()
    for start in range(0, len(data), BLOCK_BYTES):
        trial.add(reading.feed(data[start : start + BLOCK_BYTES], now_ns))
    trial.add(reading.finish(now_ns))
    if as_json:
        print(json.dumps({"file": file, "container": container, **trial.facts()}, ensure_ascii=False))
    else:
        typer.echo(trial.text(container))
    raise typer.Exit(FAILED if trial.refused else 0)


def _content(file: str) -> bytes:
    """Return the bytes of a file or of standard input, up to the bound; a failure ends the command."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_CONTENT_BYTES + 1)
        else:
            with Path(file).open("rb") as source:
                data = source.read(MAX_CONTENT_BYTES + 1)
    except OSError as error:
        fail(COMMAND, f"{file} cannot be read: {error.strerror}")
    if len(data) > MAX_CONTENT_BYTES:
        fail(COMMAND, f"{file} has more than {MAX_CONTENT_BYTES:,} bytes: try its beginning, for example with head")
    return data
