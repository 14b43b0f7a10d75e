"""Rows of MQTT: messages in and out, beside Telegraf with InfluxDB behind the same broker.

Every receiver of messages runs on one core, with the broker. The load and the subscribers run on the other.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import psutil

from bench.figure import Figure, Outcome, Plan, ReportProgress, at_least, at_most
from bench.frames import METRICS, Shape
from bench.hub_process import HubProcess, running_hub
from bench.measure import POLL_SECONDS, STORE_SECONDS, Failure, Run, measure
from bench.mqtt_load import DEVICES, TOPIC, PublishOrder, PublishResult, SubscribeOrder, SubscribeResult, names, worker
from bench.stores import on_core
from bench.telegraf import running_telegraf
from tests.services.found import MOSQUITTO, find_service
from tests.services.mosquitto import Mosquitto

OUT = "bench-out"
OUT_MUST_PER_S = 7_000
LATENCY_RATE = 2_000
LATENCY_SECONDS = 5.0
NODELAY = ("set_tcp_nodelay true",)
"""Setting of the broker; without it a message waits for the acknowledgement of the previous one."""

ONE = Shape(metrics=1, times=1, format="msgpack")


class Received(NamedTuple):
    """Result of one run: from the first message sent to the last one stored, the processor time of the receivers and
    the broker, and the publisher's own result."""

    seconds: float
    cpu_s: float
    sent: PublishResult


class MqttIn(NamedTuple):
    """Messages of this number of readings, as fast as possible: until the hub's store has them, then until InfluxDB has
    them."""

    key: str
    name: str
    readings: int
    qos: Literal[0, 1]
    messages: int
    must: float | None

    def run(self, plan: Plan, report: ReportProgress) -> Outcome:
        """Measure both in turn, each time on new servers; the medians count."""
        ours: list[float] = []
        theirs: list[float] = []
        notes = []
        per_device = max(10, round(self.messages * plan.scale / DEVICES))
        total = per_device * DEVICES
        for repeat in range(plan.repeats):
            report(f"{self.name}, run {repeat + 1} of {plan.repeats}, hub", repeat / plan.repeats)
            hub = self._hub(plan, f"r{repeat}", per_device)
            report(f"{self.name}, run {repeat + 1} of {plan.repeats}, Telegraf", (repeat + 0.5) / plan.repeats)
            telegraf = self._telegraf(plan, f"r{repeat}", per_device)
            ours.append(total / hub.seconds)
            theirs.append(total / telegraf.seconds)
            sending_s = hub.sent.ended_s - hub.sent.started_s
            notes.append(
                f"hub {ours[-1]:,.0f} messages/s, Telegraf {theirs[-1]:,.0f}; processor time of a message with the "
                f"broker's: {hub.cpu_s / total * 1e6:.1f} and {telegraf.cpu_s / total * 1e6:.1f} µs; {total:,} "
                f"messages, {hub.sent.bytes / 1e6:.0f} MB, which the broker had after {sending_s:.1f} s; publisher "
                f"{hub.sent.cpu_s / sending_s:.0%} of its core"
            )
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        return Outcome(
            [
                at_least(f"{self.name}: acknowledged and stored", statistics.median(ours), "messages/s", None),
                at_least(f"{self.name}: Telegraf and InfluxDB", statistics.median(theirs), "messages/s", None),
                at_least(f"{self.name}: hub to Telegraf", ratio, "times", self.must),
            ],
            notes,
        )

    def _hub(self, plan: Plan, prefix: str, per_device: int) -> Received:
        data = plan.data(self.key)
        total = per_device * DEVICES
        with running_broker(plan, self.key) as broker:
            table = f'[[mqtt.subscribe]]\ntopic = "{TOPIC}/{{device}}"\nqos = {self.qos}\n'
            with bridged_hub(plan, data, broker, table) as hub:
                self._await_subscription(broker, hub, plan)
                with worker(
                    PublishOrder(broker.port, prefix, per_device, self.readings, self.qos, plan.load_core)
                ) as publisher:
                    before_s = cpu_s(besides=publisher.pid)
                    publisher.go()
                    sent = publisher.sent()
                    ended_s = self._stored(hub, prefix, total)
                    used_s = cpu_s(besides=publisher.pid) - before_s
        if sent.acked != total:
            raise Failure(f"the broker acknowledged {sent.acked} of {total} messages")
        return Received(ended_s - sent.started_s, used_s, sent)

    def _await_subscription(self, broker: Mosquitto, hub: HubProcess, plan: Plan) -> None:
        """Send a first message of each device, which also declares its metrics."""
        with worker(PublishOrder(broker.port, "first", 1, self.readings, 1, plan.load_core)) as publisher:
            publisher.go()
            publisher.sent()
        self._stored(hub, "first", DEVICES)

    def _stored(self, hub: HubProcess, prefix: str, messages: int) -> float:
        """Return the time when the store had every reading. Raise Failure where the accounting does not balance."""
        wanted = messages * self.readings
        deadline_s = time.monotonic() + STORE_SECONDS
        while True:
            accounting = hub.accounting()
            ours = [device for device in accounting.devices if device.device.startswith(f"{prefix}-")]
            accepted = sum(device.accepted for device in ours)
            stored = sum(device.stored or 0 for device in ours)
            if stored >= wanted and not accounting.behind:
                break
            if time.monotonic() > deadline_s:
                raise Failure(f"readings accepted: {accepted}, stored: {stored}, not {wanted}")
            time.sleep(POLL_SECONDS)
        ended_s = time.monotonic()
        bad = sum(d.duplicate_batches + d.quarantined_batches + d.lost_batches for d in ours)
        if (accepted, stored, bad) != (wanted, wanted, 0):
            raise Failure(f"readings accepted: {accepted}, stored: {stored}, not {wanted}; {bad} batches went wrong")
        return ended_s

    def _telegraf(self, plan: Plan, prefix: str, per_device: int) -> Received:
        with ExitStack() as stack:
            broker = stack.enter_context(running_broker(plan, self.key))
            folder = plan.data(f"{self.key}-telegraf")
            telegraf = stack.enter_context(running_telegraf(folder, port=broker.port, qos=self.qos, core=plan.hub_core))
            order = PublishOrder(broker.port, prefix, per_device, self.readings, self.qos, plan.load_core)
            publisher = stack.enter_context(worker(order))
            before_s = cpu_s(besides=publisher.pid)
            publisher.go()
            sent = publisher.sent()
            ended_s = telegraf.wait(per_device * DEVICES, names(self.readings))
            return Received(ended_s - sent.started_s, cpu_s(besides=publisher.pid) - before_s, sent)


class MqttOut(NamedTuple):
    """Batches of one reading, each a message to a subscriber: as fast as possible, then at a fixed rate."""

    key: str
    name: str
    qos: Literal[0, 1]
    messages: int
    must: float | None

    def run(self, plan: Plan, report: ReportProgress) -> Outcome:
        """Measure `plan.repeats` times; the medians count."""
        data = plan.data(self.key)
        rates: list[float] = []
        latencies: list[dict[str, float]] = []
        notes = []
        table = f'[[mqtt.publish]]\ntopic = "{OUT}/{{device}}/{{metric}}"\nqos = {self.qos}\n'
        with running_broker(plan, self.key) as broker, bridged_hub(plan, data, broker, table) as hub:
            for repeat in range(plan.repeats):
                words = partial(report, f"{self.name}, run {repeat + 1} of {plan.repeats}")
                per_device = max(10, round(self.messages * plan.scale / DEVICES))
                run, heard = self._measured(plan, hub, broker, f"flood-{repeat}", per_device, 0, words)
                rates.append(per_device * DEVICES / (heard.ended_s - run.started_s))
                per_device = max(10, round(LATENCY_RATE * LATENCY_SECONDS * plan.scale / DEVICES))
                paced, times = self._measured(plan, hub, broker, f"paced-{repeat}", per_device, LATENCY_RATE, words)
                latencies.append(latency_ms(paced, times, LATENCY_RATE))
                notes.append(
                    f"{rates[-1]:,.0f} messages/s, acknowledged to the devices at {run.acked_frames_per_s:,.0f}/s; hub "
                    f"{run.hub_cpu:.0%} of its core, broker and others {run.others_cpu:.0%}, subscriber "
                    f"{heard.cpu_s / (heard.ended_s - run.started_s):.0%} of the other; at {LATENCY_RATE:,}/s "
                    f"acknowledged after {paced.latency_ms['p50']:.2f} ms, at the subscriber after "
                    f"{latencies[-1]['p50']:.2f} ms"
                )
        figures: list[Figure] = [
            at_least(f"{self.name}: device to subscriber", statistics.median(rates), "messages/s", self.must)
        ]
        figures += [
            at_most(
                f"{self.name}: device to subscriber, {name}",
                statistics.median(run_ms[name] for run_ms in latencies),
                "ms",
                None,
            )
            for name in ("p50", "p99")
        ]
        return Outcome(figures, notes)

    def _measured(
        self,
        plan: Plan,
        hub: HubProcess,
        broker: Mosquitto,
        prefix: str,
        per_device: int,
        rate: float,
        report: partial[None],
    ) -> tuple[Run, SubscribeResult]:
        order = SubscribeOrder(
            broker.port, f"{OUT}/+/{METRICS[0].name}", self.qos, per_device * DEVICES, plan.load_core, times=bool(rate)
        )
        with worker(order) as subscriber:
            run = measure(
                hub,
                ONE,
                prefix=prefix,
                devices=DEVICES,
                frames=per_device,
                rate=rate,
                seed=0,
                core=plan.load_core,
                hub_core=plan.hub_core,
                progress=report,
            )
            heard = subscriber.heard()
        wrong = {topic: count for topic, count in heard.by_topic.items() if count != per_device}
        if wrong or len(heard.by_topic) != DEVICES or heard.repeated or heard.disordered:
            raise Failure(
                f"the subscriber got {wrong or heard.by_topic} of {per_device} per device, {heard.repeated} twice and "
                f"{heard.disordered} out of order"
            )
        return run, heard


def latency_ms(run: Run, heard: SubscribeResult, rate: float) -> dict[str, float]:
    """Return p50 and p99 from the intended time of each frame to its message at the subscriber.

    Frame k of a paced load belongs to device k mod n, and the messages of a device arrive in order.
    """
    devices = len(heard.by_topic)
    parts = []
    for topic, times_s in heard.times_s.items():
        device = int(topic.split("/")[1].rpartition("-")[2])
        due_s = run.started_s + (np.arange(len(times_s)) * devices + device) / rate
        parts.append(np.array(times_s) - due_s)
    values = np.percentile(np.concatenate(parts), [50, 99]) * 1000
    return {"p50": float(values[0]), "p99": float(values[1])}


def cpu_s(*, besides: int) -> float:
    """Return the processor time of everything that this process has started, except one process."""
    used_s = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            times = process.cpu_times()
            used_s += times.user + times.system if process.pid != besides else 0.0
    return used_s


@contextmanager
def running_broker(plan: Plan, key: str) -> Iterator[Mosquitto]:
    """Run an empty Mosquitto on the hub's core. Raise Failure where there is none."""
    found = find_service(MOSQUITTO)
    if found.path is None:
        raise Failure(found.reason)
    with ExitStack() as stack:
        with on_core(plan.hub_core):
            broker = stack.enter_context(Mosquitto(found.path, plan.data(f"{key}-broker"), settings=NODELAY))
        yield broker


@contextmanager
def bridged_hub(plan: Plan, data: Path, broker: Mosquitto, table: str) -> Iterator[HubProcess]:
    """Run a hub with one broker; `table` is the rest of the broker's settings."""
    config = data.with_suffix(".toml")
    config.write_text(f"[[mqtt]]\nurl = {msgspec.json.encode(broker.url).decode()}\n{table}")
    with running_hub(data, core=plan.hub_core, launcher=plan.launcher, environment={"HUB_CONFIG": str(config)}) as hub:
        yield hub


MQTT_ROWS = (
    MqttIn("mqtt-in-one", "MQTT in, 1 reading, QoS 1", 1, 1, 300_000, 1.0),
    MqttIn("mqtt-in-forty", "MQTT in, 40 readings, QoS 1", 40, 1, 100_000, 1.5),
    MqttIn("mqtt-in-one-0", "MQTT in, 1 reading, QoS 0", 1, 0, 300_000, None),
    MqttIn("mqtt-in-forty-0", "MQTT in, 40 readings, QoS 0", 40, 0, 100_000, None),
    MqttOut("mqtt-out", "MQTT out, QoS 1", 1, 40_000, OUT_MUST_PER_S),
    MqttOut("mqtt-out-0", "MQTT out, QoS 0", 0, 40_000, OUT_MUST_PER_S),
)
