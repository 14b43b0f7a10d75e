"""`hub mqtt check`: what the hub would make of what a broker has, before anything is switched on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli.exit import MISUSE, fail
from hub.cli.options import AsJson, Config, settings_or_exit
from hub.cli.terminal import printable

if TYPE_CHECKING:
    from hub.config import MqttSettings

COMMAND = "hub mqtt check"
SHOWN_READINGS = 20
"""Of one topic on the terminal; --json has all."""

app = typer.Typer(no_args_is_help=True, help="The bridges to MQTT brokers.")


@app.callback()
def mqtt() -> None:
    """The bridges to MQTT brokers."""


@app.command()
def check(
    seconds: Annotated[float, typer.Option(min=0.1, max=86_400, help="How long to listen.")] = 10.0,
    url: Annotated[
        str | None, typer.Option(help="A broker, mqtt://HOST:PORT or mqtts://…; without it those of the settings.")
    ] = None,
    topic: Annotated[
        list[str] | None, typer.Option(help="With --url: a topic or template, e.g. 'sensors/{device}/{metric}'.")
    ] = None,
    payload: Annotated[str, typer.Option(help="With --topic: json, value, senml or line.")] = "json",
    preset: Annotated[list[str] | None, typer.Option(help="With --url: a preset, e.g. zigbee2mqtt.")] = None,
    user: Annotated[str, typer.Option(help="With --url: the user at the broker.")] = "",
    password: Annotated[str, typer.Option(help="With --url: its password.", envvar="MQTT_PASSWORD")] = "",
    ca: Annotated[Path | None, typer.Option(help="With --url: PEM file with the broker's authority.")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Connect to the brokers of the settings (or to --url), listen, and explain what the hub would make of it.

    It tells the broker and its version, the topics seen with counts, which template or preset takes which, the readings
    that would be stored (device, metric, type, value, unit), what would be refused and why, and topics that would run
    in a circle. Nothing is stored, and the hub's own session at the broker is left alone.

    A broker hands over retained messages at once, and all others as they are published: --seconds says how long to
    wait. Ends with 1 where a broker cannot be listened to.

    Examples:  hub mqtt check --config hub.toml  ·  hub mqtt check --url mqtt://localhost:1883 --topic '#'
    """
    if url is not None:
        brokers = [_named(url, topic or (), payload, preset or (), user, password, ca)]
    else:
        if topic or preset or user or password or ca:
            fail(COMMAND, "--topic, --preset, --user, --password and --ca are for --url", MISUSE)
        brokers = [*settings_or_exit(config).mqtt]
    if not brokers:
        fail(COMMAND, "the settings name no broker: add [[mqtt]], or give one with --url mqtt://HOST:PORT", MISUSE)
    found = [_look(broker, seconds) for broker in brokers]
    if as_json:
        typer.echo(json.dumps({"brokers": found}))
    else:
        for broker in found:
            _print(broker)
    if any(broker["error"] for broker in found):
        raise typer.Exit(1)


def _named(
    url: str, topics: Sequence[str], payload: str, presets: Sequence[str], user: str, password: str, ca: Path | None
) -> MqttSettings:
    from pydantic import ValidationError

    from hub.config import MqttSettings

    # A topic that names no device is still worth a look: the topic itself stands for the device.
    subscribe = [
        {"topic": topic, "payload": payload, **({} if "{device}" in topic else {"device": "mqtt"})}
        for topic in topics or (() if presets else ("#",))
    ]
    values: dict[str, Any] = {"url": url, "subscribe": subscribe, "presets": presets, "user": user}
    if password:
        values["password"] = password
    if ca is not None:
        values["tls_ca"] = ca
    try:
        return MqttSettings.model_validate(values)
    except ValidationError as error:
        messages = (str(one.get("ctx", {}).get("error", one["msg"])) for one in error.errors())
        fail(COMMAND, "; ".join(messages), MISUSE)


def _look(broker: MqttSettings, seconds: float) -> dict[str, Any]:
    from hub.app.mqtt import broker_check
    from hub.mqtt.connection import BrokerError

    report: dict[str, Any] = {"name": broker.name, "url": broker.url, "version": "", "broker": "", "error": None}
    try:
        check = broker_check(broker)
        asyncio.run(check.run(seconds))
    except (BrokerError, ValueError) as error:
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
        "loops": check.loops([publish.topic for publish in broker.publish]),
    }


def _print(told: dict[str, Any]) -> None:
    def say(text: str = "") -> None:
        typer.echo(printable(text))

    say(f"{told['name']}  {told['url']}")
    if told["error"]:
        say(f"  {told['error']}")
        return
    broker = f", {told['broker']}" if told["broker"] else ""
    say(f"  connected with MQTT {told['version']}{broker}; a session of its own that is not kept")
    say(f"  {told['messages']:,} messages of {len(told['topics']):,} topics in {told['seconds']:g} s")
    for filter in told["refused_filters"]:
        say(f"  the broker refuses the subscription {filter}: this user may not read it")
    for loop in told["loops"]:
        say(
            f"  publish {loop['publish']} and {loop['subscribe']} have the topic {loop['topic']} in common: what goes "
            "out would come in again; the hub does not start with both"
        )
    if not told["topics"]:
        say("  nothing was published meanwhile: listen for longer with --seconds, or look at the topics")
    for seen in told["topics"]:
        say()
        retained = f", {seen['retained']} retained (no new readings)" if seen["retained"] else ""
        say(f"  {seen['topic']}  {seen['messages']:,} messages{retained}")
        others = f"; {', '.join(seen['also_matches'])} would, too" if seen["also_matches"] else ""
        say(f"    taken by {seen['taken_by'] or 'nothing'}{others}")
        for reading in seen["readings"][:SHOWN_READINGS]:
            unit = f" {reading['unit']}" if reading["unit"] else ""
            say(f"    {reading['device']}  {reading['metric']}  {reading['type']}  {reading['value']!r}{unit}")
        if len(seen["readings"]) > SHOWN_READINGS:
            say(f"    and {len(seen['readings']) - SHOWN_READINGS} more (--json has all)")
        for code, sentence in seen["refused"].items():
            say(f"    refused, {code}: {sentence}")
    if told["left_out"]:
        say(f"  {told['left_out']:,} more messages of other topics")
