"""Program in the other implementation's environment: answers a line of JSON with a line of JSON."""

from __future__ import annotations

import dataclasses
import datetime
import json
import queue
import sys
from typing import Any

import pysparkplug as spb

COMMAND_TIMEOUT_S = 30

edges: list[Any] = []
commands: queue.Queue[Any] = queue.Queue()


def metric_of(fields: dict[str, Any]) -> Any:
    value = fields.get("value")
    if fields["datatype"] == spb.DataType.DATETIME and value is not None:
        value = datetime.datetime.fromtimestamp(value / 1000, tz=datetime.UTC)
    return spb.Metric(
        **{"timestamp": None, "name": None, **fields, "datatype": spb.DataType(fields["datatype"]), "value": value}
    )


def fields_of(metric: Any) -> dict[str, Any]:
    value = metric.value
    if isinstance(value, datetime.datetime):
        value = round(value.timestamp() * 1000)
    return {
        **{field.name: getattr(metric, field.name) for field in dataclasses.fields(metric)},
        "metadata": None if metric.metadata is None else metric.metadata.description,
        "value": value,
    }


def encode(kind: str, timestamp: int, seq: int, metrics: list[dict[str, Any]], include_dtypes: bool) -> str:
    payload = getattr(spb, kind)(timestamp=timestamp, seq=seq, metrics=tuple(map(metric_of, metrics)))
    encoded: bytes = payload.encode(include_dtypes=include_dtypes)
    return encoded.hex()


def decode(kind: str, payload: str) -> dict[str, Any]:
    decoded = getattr(spb, kind).decode(bytes.fromhex(payload))
    return {
        "timestamp": decoded.timestamp,
        "seq": getattr(decoded, "seq", None),
        "metrics": [fields_of(metric) for metric in decoded.metrics],
    }


def connect(port: int, group: str, node: str, metrics: list[dict[str, Any]], devices: dict[str, Any]) -> None:
    edge = spb.EdgeNode(
        group, node, [metric_of(fields) for fields in metrics], cmd_callback=lambda _, message: commands.put(message)
    )
    for device, its in devices.items():
        its_metrics = [metric_of(fields) for fields in its]
        edge.register(spb.Device(device, its_metrics, cmd_callback=lambda _, message: commands.put(message)))
    edges.append(edge)
    edge.connect("127.0.0.1", port=port)


def update(device: str, metrics: list[dict[str, Any]]) -> None:
    changed = [metric_of(fields) for fields in metrics]
    if device:
        edges[-1].update_device(device, changed)
    else:
        edges[-1].update(changed)


def skip() -> int:
    """Skip a sequence number, which no message gets."""
    taken: int = edges[-1]._seq
    return taken


def command() -> list[dict[str, Any]]:
    """Return the metrics of the next command."""
    return [fields_of(metric) for metric in commands.get(timeout=COMMAND_TIMEOUT_S).payload.metrics]


def disconnect() -> None:
    edges[-1].disconnect()


def reconnect(port: int) -> None:
    edges[-1].connect("127.0.0.1", port=port)


REQUESTS = {
    request.__name__: request for request in (encode, decode, connect, update, skip, command, disconnect, reconnect)
}

for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps(REQUESTS[asked.pop("do")](**asked)), flush=True)
