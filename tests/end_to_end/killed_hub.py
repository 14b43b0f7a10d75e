"""A hub that kills itself (kill -9) before or after the commit of a state of a command or of a desired value."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from typing import Any

from hub.model.command import CommandRecord
from hub.registry import command, database, declared, desired


def kill_at(point: str) -> None:
    """Replace the functions that write, and the one that commits, by ones that kill the process at this point.

    A point such as `received before 3` is before the commit of the state `received` of the command whose parameter
    `speed` is 3. Of settings there are `declared`, and `desired` and `reported` with the value of `pressure`. A hub
    that is forked gets the function as its `prepare`.
    """
    state, when, number = point.split()
    insert, change, commit = command.insert_command, command.change_commands, database._commit
    change_record, declare = desired.change_desired, declared.write_declared
    is_written = False

    def reached() -> None:
        nonlocal is_written
        is_written = True
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)

    def written(record: CommandRecord, states: Iterable[str]) -> None:
        if state in states and record.parameters["speed"] == float(number):
            reached()

    def write_declared(connection: Any, table: str, *arguments: Any) -> None:
        declare(connection, table, *arguments)
        if (state, table) == ("declared", "declared_settings"):
            reached()

    def change_desired(connection: Any, device: str, *arguments: Any) -> Any:
        before = desired.select_desired(connection, device)
        after = change_record(connection, device, *arguments)
        values = {
            "desired": {name: value.value for name, value in after.values.items()},
            "reported": {} if after.reported is None else after.reported.values,
        }
        if after != before and values.get(state, {}).get("pressure") == float(number):
            reached()
        return after

    def insert_command(*arguments: Any) -> Any:
        record = insert(*arguments)
        written(record, [change.state.value for change in record.changes])
        return record

    def change_commands(*arguments: Any) -> Any:
        changes = change(*arguments)
        for stored in changes:
            if stored.is_changed and stored.record is not None:
                written(stored.record, [stored.record.state.value])
        return changes

    def commit_jobs(*arguments: Any) -> Any:
        outcomes = commit(*arguments)
        if is_written:
            os.kill(os.getpid(), signal.SIGKILL)
        return outcomes

    vars(command).update(insert_command=insert_command, change_commands=change_commands)
    vars(desired).update(change_desired=change_desired)
    vars(declared).update(write_declared=write_declared)
    vars(database).update(_commit=commit_jobs)
