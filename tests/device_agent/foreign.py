"""Inputs of tests: rules, and what a source reads by them."""

from __future__ import annotations

from agent_client.rule_files import zone_of
from device_agent.sources.lines import ForeignInput
from formats.rules import rules_of


def foreign_input(device: str = "boiler", **rules: object) -> ForeignInput:
    """Return an input of this device with these rules."""
    made = rules_of({"device": device, **rules})
    return ForeignInput(made, zone_of(made.zone))
