"""The Compose file as its reference implementation reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.compose import Model, read_compose


@pytest.fixture(scope="session")
def model(compose_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return docker-compose.yml without any variable set."""
    return read_compose(compose_program, tmp_path_factory.mktemp("compose"))
