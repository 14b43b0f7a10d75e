from __future__ import annotations

import pytest

from tests.services.influxdb import InfluxdbServer


@pytest.fixture(scope="module", params=["influxdb1", "influxdb2"])
def server(request: pytest.FixtureRequest) -> InfluxdbServer:
    """Provide each of the two versions."""
    found: InfluxdbServer = request.getfixturevalue(request.param)
    return found
