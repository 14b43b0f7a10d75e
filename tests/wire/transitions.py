"""The checks that both session tests share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from wire.errors import Code, WireError


def refused(code: Code) -> Any:
    """Return a context that expects one WireError with this code."""
    return pytest.raises(WireError, match=f"^{code.value}: ")


def check_transition(session: Any, state: Any, message: object, table: Mapping[Any, Any]) -> None:
    """Assert that a session in this state goes where the table says, and refuses a pair that is missing there."""
    session.state = state
    after = table.get((state, type(message)))
    if after is None:
        with refused(Code.UNEXPECTED_MESSAGE):
            session.receive(message)
        assert session.state is state
    else:
        session.receive(message)
        assert session.state is after
