"""Tests of the warnings and problems in the hub's status."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hub.http.status import Status
from hub.model.bridge import BridgeState
from hub.model.journal import JournalIncident
from tests.hub.http.routes.bridge_states import BOTH, WAITING


def status_with(bridges: list[BridgeState], fullness: str | None = None) -> Status:
    unused: dict[str, Any] = dict.fromkeys(Status.__dataclass_fields__)
    known: dict[str, Any] = {
        "registry_problem": lambda: fullness,
        "bridges": lambda: bridges,
        "tls_problems": lambda: (),
    }
    known["incidents"] = lambda: ()
    return Status(**{**unused, **known})


UNAVAILABLE = {"mqtt:cabin": "it refuses connections"}


@pytest.mark.parametrize(("bridges", "warnings"), [([], {}), ([BOTH, WAITING], UNAVAILABLE)])
def test_an_unavailable_broker_is_a_warning(bridges: list[BridgeState], warnings: dict[str, str]) -> None:
    """It has the name of its bridge."""
    assert status_with(bridges).warnings() == warnings


def test_damage_of_the_journal_is_a_warning() -> None:
    """The newest incidents are in the answer, each with its next step."""
    incidents = [JournalIncident("journal damaged", f"damage {number}") for number in range(9)]
    status = replace(status_with([]), incidents=lambda: incidents)
    assert status.warnings() == {"journal": "damage 6. damage 7. damage 8."}


def test_a_full_registry_is_a_warning() -> None:
    """It comes beside those of the brokers."""
    assert status_with([WAITING], "full").warnings() == {**UNAVAILABLE, "registry": "full"}
