"""The settings of [influx_write]: how lines of InfluxDB's writers become devices and metrics."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from formats.rules import Rules, RulesError, rules_of
from hub.config.sections import Section
from wire.model import MetricType


class InfluxWriteSettings(Section):
    """Devices and metrics of the lines that InfluxDB's writers send."""

    device: str = Field(
        default="",
        description="Template of the device: `{host}`, `{site}-{host}`, `{bucket}`. Empty: the tag host, device, "
        "device_id or hostname, else the device of the token, else the bucket or database.",
    )
    metric: str = Field(
        default="",
        description="Template of the metric: `{measurement}.{field}`. Empty: measurement, other tags and field.",
    )
    measurements: tuple[str, ...] = Field(default=(), description="Measurements that are stored; empty: all.")
    columns: dict[str, str] = Field(
        default={}, description="Fields that are stored, with their names in the metric; empty: all."
    )
    no_value: tuple[str, ...] = Field(default=(), description="Words without a value, besides the built-in ones.")
    types: dict[str, MetricType] = Field(
        default={}, description="Types of metrics: float, integer, boolean or string; others by their first value."
    )
    units: dict[str, str] = Field(default={}, description="Units of metrics.")

    @model_validator(mode="after")
    def _are_rules(self) -> Self:
        try:
            self.rules()
        except RulesError as error:
            raise ValueError(str(error)) from None
        return self

    def rules(self) -> Rules:
        """Return the rules of the lines. Raises RulesError."""
        return rules_of({"format": "line", **self.model_dump(exclude_defaults=True)})
