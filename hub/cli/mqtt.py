"""`hub mqtt check`: connect to brokers and explain what the hub would do with their messages."""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer import Option

from agent_client.option_group import with_option_groups
from hub.cli.command import FAILED, MISUSE, AsJson, Config, fail, printable, settings_or_exit
from hub.config.mqtt import MqttSettings
from integrity.database import SnapshotError
from wire.errors import WireError
from wire.text import plural

COMMAND = "hub mqtt check"
MAX_SHOWN = 20
"""Readings of one topic on the terminal; --json contains all."""

app = typer.Typer(
    no_args_is_help=True,
    help="Check the connections to MQTT brokers.",
    epilog="Example:  hub mqtt check --url mqtt://localhost:1883",
)


@app.callback()
def mqtt() -> None:
    """Check the connections to MQTT brokers."""


@dataclass(frozen=True)
class GivenBroker:
    """Options that describe one broker, instead of those in the settings."""

    url: Annotated[
        str | None, Option(help="Broker, mqtt://HOST:PORT or mqtts://…. Default: the brokers in the settings.")
    ] = None
    topic: Annotated[
        list[str] | None, Option(help="With --url: topic or template, e.g. 'sensors/{device}/{metric}'.")
    ] = None
    payload: Annotated[str, Option(help="With --topic: format, e.g. json, value, line, csv or auto.")] = "json"
    preset: Annotated[list[str] | None, Option(help="With --url: preset, e.g. zigbee2mqtt.")] = None
    zone: Annotated[str, Option(metavar="ZONE", help="With --url: zone of times without an offset.")] = ""
    rules: Annotated[
        Path | None, Option(metavar="FILE", help="With --url: TOML file with rules, as `hub try` prints them.")
    ] = None
    user: Annotated[str, Option(help="With --url: user name at the broker.")] = ""
    password: Annotated[str, Option(help="With --url: its password.", envvar="MQTT_PASSWORD")] = ""
    ca: Annotated[Path | None, Option(help="With --url: PEM file with the broker's authority.")] = None

    def settings(self) -> MqttSettings:
        """Return the settings of the broker. Invalid options end the command with 2."""
        # For a topic without a device, the device is named mqtt.
        subscribe = [
            {"topic": topic, "payload": self.payload, **({} if "{device}" in topic else {"device": "mqtt"})}
            for topic in self.topic or (() if self.preset else ("#",))
        ]
        rules = self._rules()
        access = {"user": self.user, "password": self.password or None, "tls_ca": self.ca}
        try:
            return MqttSettings.model_validate(
                {"url": self.url, "subscribe": subscribe, "presets": self.preset or (), "rules": rules, **access}
            )
        except ValidationError as error:
            messages = (str(problem.get("ctx", {}).get("error", problem["msg"])) for problem in error.errors())
            fail(COMMAND, "; ".join(messages), MISUSE)

    def _rules(self) -> dict[str, Any]:
        try:
            found = {} if self.rules is None else tomllib.loads(self.rules.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            fail(COMMAND, f"{self.rules}: {error}", MISUSE)
        found.pop("format", None)
        return {**found, **({"zone": self.zone} if self.zone else {})}


@app.command()
@with_option_groups
def check(
    seconds: Annotated[float, Option(min=0.1, max=86_400, help="Time to listen.")] = 10.0,
    as_json: AsJson = False,
    config: Config = None,
    *,
    given: GivenBroker,
) -> None:
    """Connect to the brokers in the settings (or to --url), listen to all, and explain what the hub would do.

    Messages take the way of a running hub, with the devices and types that the hub in the data directory has, except
    that nothing is stored. The report contains the broker and its version, the topics with counts, the template or
    preset that decodes each of them, for each shape of messages the readings that would be stored (device, metric,
    type, value, unit) and the values that would be refused with the setting that changes it, the rules that decided,
    and topics that would form a loop. The session of the hub at the broker is not used.

    A broker sends retained messages at once, and others when they are published: set --seconds to wait longer. The exit
    code is 1 if a connection or a subscription fails.

    Examples:  hub mqtt check --config hub.toml  ·  hub mqtt check --url mqtt://localhost:1883 --topic '#'
    """
    settings = settings_or_exit(config)
    if given.url is not None:
        brokers = [given.settings()]
    else:
        if any((given.topic, given.preset, given.user, given.password, given.ca, given.zone, given.rules)):
            names = "--topic, --preset, --user, --password, --ca, --zone and --rules"
            fail(COMMAND, f"{names} need --url", MISUSE)
        brokers = [*settings.mqtt]
    if not brokers:
        fail(COMMAND, "the settings contain no broker: add [[mqtt]], or set --url mqtt://HOST:PORT", MISUSE)
    reports = asyncio.run(_check_brokers(brokers, settings.zone, settings.data, seconds))
    if as_json:
        typer.echo(json.dumps({"brokers": reports}))
    else:
        for report in reports:
            _print(report)
    if any(report["error"] for report in reports):
        raise typer.Exit(FAILED)


async def _check_brokers(
    brokers: Sequence[MqttSettings], zone: str, data: Path, seconds: float
) -> list[dict[str, Any]]:
    """Return the reports about the brokers, to which the check listens at the same time."""
    return await asyncio.gather(*(_check_broker(broker, zone, data, seconds) for broker in brokers))


async def _check_broker(broker: MqttSettings, zone: str, data: Path, seconds: float) -> dict[str, Any]:
    from hub.app.mqtt import broker_check
    from hub.mqtt.connection import BrokerError

    report: dict[str, Any] = {"name": broker.name, "url": broker.url, "version": "", "broker": "", "error": None}
    try:
        async with broker_check(broker, zone=zone, data=data) as check:
            await check.run(seconds)
    except (BrokerError, SnapshotError, WireError, ValueError) as error:
        return {**report, "error": str(error)}
    except OSError as error:
        return {**report, "error": f"{error.filename}: {error.strerror}"}
    return {
        **report,
        "version": check.version,
        "broker": check.broker,
        "refused_filters": check.refused_filters,
        "filters": check.filters,
        "seconds": seconds,
        "messages": check.messages,
        "left_out": check.messages_beyond_bound,
        "topics": check.topic_report(),
        "rules": check.rules(),
        "loops": check.loops([publish.topic for publish in broker.publish]),
    }


def _print(report: dict[str, Any]) -> None:
    _echo(f"{report['name']}  {report['url']}")
    if report["error"]:
        _echo(f"  {report['error']}")
        return
    broker = f", {report['broker']}" if report["broker"] else ""
    _echo(f"  connected with MQTT {report['version']}{broker}, in a temporary session")
    topics = plural(len(report["topics"]), "topic")
    _echo(f"  {plural(report['messages'], 'message')} of {topics} in {report['seconds']:g} s")
    for filter in report["refused_filters"]:
        _echo(f"  the broker rejects the subscription {filter}: this user may not read it")
    for loop in report["loops"]:
        _echo(
            f"  publish {loop['publish']} and {loop['subscribe']} share the topic {loop['topic']}: published readings "
            "would come back; the hub does not start with both"
        )
    if not report["topics"]:
        _echo("  no message arrived: raise --seconds, or check the topics")
    for topic in report["topics"]:
        _print_topic(topic)
    if report["left_out"]:
        _echo(f"  {plural(report['left_out'], 'more message')} of other topics, or too many to examine")
    if report["rules"]:
        _echo("\n  rules that decided:")
    for rule in report["rules"][:MAX_SHOWN]:
        setting = f"; setting: {rule['setting']}" if rule["setting"] else ""
        _echo(f"    {rule['decoder']}: {rule['sentence']}{setting}")


def _print_topic(topic: dict[str, Any]) -> None:
    retained = f", {topic['retained']} retained (no new readings)" if topic["retained"] else ""
    _echo()
    _echo(f"  {topic['topic']}  {plural(topic['messages'], 'message')}{retained}")
    others = f"; {', '.join(topic['also_matches'])} would match too" if topic["also_matches"] else ""
    _echo(f"    decoded by {topic['taken_by'] or 'nothing'}{others}")
    for shape in topic["shapes"]:
        if len(topic["shapes"]) > 1 or shape["refused"]:
            _echo(f"    {plural(shape['messages'], 'message')} such as {shape['example']}")
        _print_shape(shape)


def _print_shape(shape: dict[str, Any]) -> None:
    for reading in shape["readings"][:MAX_SHOWN]:
        unit = f" {reading['unit']}" if reading["unit"] else ""
        _echo(f"    {reading['device']}  {reading['metric']}  {reading['type']}  {reading['value']!r}{unit}")
    if len(shape["readings"]) > MAX_SHOWN:
        _echo(f"    and {len(shape['readings']) - MAX_SHOWN} more (--json contains all)")
    if not shape["readings"] and not shape["refused"]:
        known = "its readings arrived in an earlier message, with the same time" if shape["duplicate"] else ""
        _echo(f"    no reading: {known or 'the message contains no value'}")
    for refusal in shape["refused"]:
        metric = f"{refusal['metric']}: " if refusal.get("metric") else ""
        setting = f"; set {refusal['setting']}" if refusal.get("setting") else ""
        _echo(f"    refused, {refusal['code']}: {metric}{refusal['reason']}{setting}")


def _echo(text: str = "") -> None:
    typer.echo(printable(text))
