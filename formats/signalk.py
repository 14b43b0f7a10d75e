"""Signal K deltas, after the Signal K specification 1.7: the values of a boat by their paths, in units of the SI.

The context is the device, a path is a metric, and each update has its own time and source. Values that are objects,
such as a position, are metrics below their path. The hello of a server contains no readings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from formats.json_text import MAX_VALUES, documents, flatten
from formats.record import Entry, FrameRefused, InputRecord, Note, RefusedField, Schema, TextFrame, refusal_of, shown
from wire.limits import MAX_METRIC_NAME, MAX_UNIT
from wire.model import MetricType

MAX_PATHS = 10_000
"""Paths whose unit and source are remembered; a boat has some hundred. Further ones have the specification's unit."""

SOURCE = "source"
"""Name of the source of an update, for templates such as "{field}.{source}"."""

_UNITS_OF_NAMES = {
    "m/s": (
        "speedOverGround speedThroughWater speedThroughWaterLongitudinal speedThroughWaterTransverse speedTrue "
        "speedApparent drift polarSpeed targetSpeed velocityMadeGood velocityMadeGoodToWaypoint maximumWind "
        "minimumWind beatAngleTargetSpeed beatAngleVelocityMadeGood gybeAngleTargetSpeed gybeAngleVelocityMadeGood"
    ),
    "rad": (
        "courseOverGroundTrue courseOverGroundMagnetic headingTrue headingMagnetic headingCompass magneticDeviation "
        "magneticVariation leeway leewayAngle roll pitch yaw angleApparent angleTrueGround angleTrueWater "
        "directionTrue directionMagnetic directionChangeAlarm setTrue setMagnetic rudderAngle rudderAngleTarget "
        "bearingTrue bearingMagnetic bearingTrackTrue bearingTrackMagnetic beatAngle gybeAngle targetAngle tackTrue "
        "tackMagnetic thrustAngle windAngleApparent windAngleTrue portLock starboardLock deadZone backlash"
    ),
    "rad/s": "rateOfTurn maxDriveRate",
    "°": "latitude longitude",
    "m": (
        "altitude antennaAltitude belowKeel belowSurface belowTransducer surfaceToTransducer transducerToKeel log "
        "distance crossTrackError maxRadius currentRadius heave heightNow heightHigh heightLow distanceStartline beam "
        "airHeight"
    ),
    "K": (
        "temperature coolantTemperature exhaustTemperature oilTemperature intakeManifoldTemperature panelTemperature "
        "regulatorTemperature dewPoint dewPointTemperature heatIndexTemperature apparentWindChillTemperature "
        "theoreticalWindChillTemperature"
    ),
    "Pa": "pressure oilPressure coolantPressure boostPressure",
    "Hz": "revolutions frequency",
    "V": "voltage alternatorVoltage lineLineVoltage lineNeutralVoltage panelVoltage setpointVoltage ripple",
    "A": "current loadCurrent panelCurrent setpointCurrent maxDriveCurrent",
    "W": "panelPower realPower reactivePower apparentPower",
    "J": "actual nominal remaining dischargeLimit yieldToday",
    "C": "dischargeSinceFull lifetimeDischarge lifetimeRecharge",
    "s": (
        "runTime timeRemaining timeTo timeToGo timeToStart differentialAge magneticVariationAgeOfService timePortDown "
        "timePortUp timeStbdDown timeStbdUp"
    ),
    "m³": "capacity currentVolume used",
    "m³/s": "rate averageRate economyRate",
    "ratio": (
        "stateOfCharge stateOfHealth currentLevel humidity relativeHumidity engineLoad engineTorque gearRatio "
        "trimState salinity polarSpeedRatio pulleyRatio"
    ),
    "lx": "illuminance",
    "kg/m³": "airDensity",
    "m²": "area",
}
_UNITS = {name: unit for unit, names in _UNITS_OF_NAMES.items() for name in names.split()}
"""Units of the specification by the last name of a path."""

_SYMBOLS = {"deg": "°", "m3": "m³", "m3/s": "m³/s", "m2": "m²", "kg/m3": "kg/m³", "Lux": "lx"}
_TEXTS: tuple[str, ...] = ("name", "mmsi", "uuid", "url", "flag", "port", "callsignVhf", "callsignHf")
"""Last names of paths whose values are texts, some of which look like numbers."""


def is_delta(content: object) -> bool:
    """Return whether JSON is a delta: an object with a list of updates that have values or metadata by paths."""
    updates = content.get("updates") if isinstance(content, dict) else None
    if not isinstance(updates, list) or not updates:
        return False
    return all(isinstance(update, dict) and _has_items(update) for update in updates)


def _has_items(update: dict[str, Any]) -> bool:
    found = [items for key in ("values", "meta") if (items := update.get(key)) is not None]
    return bool(found) and all(isinstance(items, list) and all(map(_has_path, items)) for items in found)


def is_hello(content: object) -> bool:
    """Return whether JSON is the first message of a server's stream."""
    return isinstance(content, dict) and "version" in content and "self" in content and "updates" not in content


def _has_path(item: object) -> bool:
    return isinstance(item, dict) and isinstance(item.get("path"), str) and "value" in item


class SignalkReader:
    """Reader of deltas. It remembers the units that metadata declares.

    `notes` name the paths that have several sources, whose values would become one series.
    """

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self._units: dict[tuple[str, str], str] = {}
        self._sources: dict[tuple[str, str], str] = {}

    def feed(self, frames: Iterable[TextFrame]) -> Iterator[Entry]:
        """Yield a record for each update, or the refusal of a frame."""
        for frame in frames:
            try:
                for content in documents(frame.raw):
                    for delta in content if isinstance(content, list) else [content]:
                        if not is_hello(delta):
                            yield from self._records(frame, delta)
            except FrameRefused as error:
                yield refusal_of(frame, error)

    def finish(self) -> Iterator[Entry]:
        """Yield nothing: each delta is complete."""
        return iter(())

    def _records(self, frame: TextFrame, delta: Any) -> Iterator[InputRecord]:
        if not is_delta(delta):
            raise FrameRefused("syntax", "the JSON is not a delta: it has no updates with values by paths")
        context = delta.get("context") or ""
        if not isinstance(context, str):
            raise FrameRefused("device", f"the context {shown(context)} is not a text")
        for update in delta["updates"]:
            self._learn(context, update.get("meta") or [])
            values: dict[str, object] = {}
            refused: list[RefusedField] = []
            for item in update.get("values") or []:
                self._add(item["path"], item["value"], values, refused)
            if len(values) + len(refused) > MAX_VALUES:
                raise FrameRefused("limit", f"a frame has at most {MAX_VALUES:,} values")
            source = source_name(update)
            self._note_sources(context, values, source)
            units = {path: unit for path in values if (unit := self._unit(context, path))}
            types: dict[str, MetricType] = {path: "string" for path in values if _last(path) in _TEXTS}
            names = {"context": context, SOURCE: source} if source else {"context": context}
            schema = Schema(units, types, device=device_of(context))
            yield InputRecord(
                frame.line, frame.raw, values, schema, update.get("timestamp"), names, refused=tuple(refused)
            )

    @staticmethod
    def _add(path: str, value: object, values: dict[str, object], refused: list[RefusedField]) -> None:
        """Add a value, or those of an object. An empty path means the context itself."""
        if path:
            flatten(path, value, values, refused)
        elif isinstance(value, dict):
            for name, inner in value.items():
                flatten(name, inner, values, refused)
        else:
            raise FrameRefused("metric", "a value has no path")

    def _learn(self, context: str, items: list[Any]) -> None:
        """Remember the units of the metadata."""
        for item in items:
            unit = item["value"].get("units") if isinstance(item["value"], dict) else None
            is_kept = len(item["path"]) <= MAX_METRIC_NAME and len(self._units) < MAX_PATHS
            if isinstance(unit, str) and len(unit) <= MAX_UNIT and is_kept:
                self._units[context, item["path"]] = _SYMBOLS.get(unit, unit)

    def _unit(self, context: str, path: str) -> str:
        return self._units.get((context, path)) or _UNITS.get(_last(path), "")

    def _note_sources(self, context: str, values: Iterable[str], source: str) -> None:
        for path in values:
            known = self._sources.get((context, path))
            if known is None and len(path) <= MAX_METRIC_NAME and len(self._sources) < MAX_PATHS:
                self._sources[context, path] = source
            elif known is not None and known != source and not self.notes:
                sentence = f"{path} has the sources {known or 'none'} and {source or 'none'}, which become one series"
                self.notes.append(Note("source", sentence, 'metric = "{field}.{source}"'))


def device_of(context: str) -> str:
    """Return the device of a context: the MMSI or UUID of a vessel, or the part behind the group, such as self."""
    name = context.partition(".")[2] or context
    return name.rpartition(":")[2] if name.startswith("urn:") else name


def source_name(update: dict[str, Any]) -> str:
    """Return the source of an update as Signal K references it, "" for none."""
    reference = update.get("$source")
    if isinstance(reference, str):
        return reference
    source = update.get("source")
    if not isinstance(source, dict):
        return ""
    parts = [source.get("label"), source.get("src") or source.get("talker")]
    return ".".join(str(part) for part in parts if isinstance(part, str | int) and part != "")


def _last(path: str) -> str:
    return path.rpartition(".")[2]
