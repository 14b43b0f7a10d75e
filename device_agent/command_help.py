"""The help of a command: its options in the same groups everywhere, and examples that can be copied."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from typer.core import TyperCommand

from agent_client.rule_options import RuleOptions
from device_agent.uplink_options import UplinkOptions

MAX_UNGROUPED = 10
"""Options that are one list; more of them are shown in groups."""

GROUPS = SOURCE, LINES, HUB, SPOOL, OTHER = "Source", "What the lines mean", "Hub", "Spool", "Other options"

_GROUP_OF = {
    **{field.name: LINES for field in fields(RuleOptions)},
    **{field.name: HUB for field in fields(UplinkOptions)},
    **dict.fromkeys(("spool", "spool_bytes"), SPOOL),
    **dict.fromkeys(("as_json", "log_level", "help"), OTHER),
}
"""Group of each option by its name; every other option is one of the source."""


class GroupedCommand(TyperCommand):
    """Command whose help has groups of options, and each example on a line of its own."""

    def __init__(self, *arguments: Any, help: str | None = None, **settings: Any) -> None:
        super().__init__(*arguments, help=help and unwrapped_examples(help), **settings)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, and the options in their groups."""
        shown = [(parameter, parameter.get_help_record(ctx)) for parameter in self.get_params(ctx)]
        options = [parameter for parameter, record in shown if record and parameter.param_type_name == "option"]
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in ("Arguments", "Options", *GROUPS)}
        for parameter, record in shown:
            if record is None:
                continue
            title = "Arguments"
            if parameter in options:
                is_long = len(options) > MAX_UNGROUPED
                title = _GROUP_OF.get(parameter.name or "", SOURCE) if is_long else "Options"
            sections[title].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def unwrapped_examples(text: str) -> str:
    """Return the text of a help with each paragraph that is an example marked so that it stays one line."""
    return re.sub(r"(?m)^Example: .*(?:\n.+)*", lambda found: "\b\n" + re.sub(r"\s*\n\s*", " ", found[0]), text)
