"""`hub try`: read a file or standard input as every input of the hub would, and store nothing."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from typer import Argument

from agent_client.option_group import with_option_groups
from agent_client.rule_files import zone_of
from agent_client.rule_options import InputOptions
from agent_client.trial import InputUnreadable, try_file
from formats.rules import RulesError
from hub.cli.command import FAILED, MISUSE, AsJson, fail

COMMAND = "hub try"


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
    refused, or if the input is empty.

    Examples:  hub try log.csv  ·  hub try - < capture.txt  ·  hub try log.csv --zone Europe/Berlin --device boiler-1
    """
    try:
        rules, function = options.to_rules(), options.load_function()
    except RulesError as error:
        fail(COMMAND, str(error), MISUSE)
    try:
        trial = try_file(file, rules, zone_of(rules.zone), function=function)
    except InputUnreadable as error:
        fail(COMMAND, str(error))
    if as_json:
        print(json.dumps({"file": file, **trial.facts()}, ensure_ascii=False))
    else:
        typer.echo(trial.text())
    raise typer.Exit(FAILED if trial.refused or trial.is_empty else 0)
