"""One broker: connected to, and again for as long as the hub runs.

Each connection has a client of its own, so nothing is left over from the one before: what the broker keeps for the
session comes again from it, and what was published and not acknowledged is published again by whoever keeps it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from hub.mqtt.client import BrokerError, Link, Listener, Options

FIRST_RETRY_S = 0.5
MAX_RETRY_S = 30.0
"""Between two attempts: a random part of a bound that doubles, so that a broker that restarts is not met by all."""

WRONG_VERSION, NO_RETAIN, NO_QOS = 0x84, 0x9A, 0x9B
"""Reason codes of CONNACK (MQTT 5.0, table 3-1): paho tells a 3.1.1 broker's answers by the same."""

STABLE_S = 10.0
"""A connection that lasts so long, or that brought something, is a good one: the next attempt comes soon."""


class Broker:
    """Connects, and connects again, until cancelled."""

    def __init__(self, options: Options, listener: Listener, *, jitter: Callable[[], float] = random.random) -> None:
        self._options = options
        self._listener = listener
        self._jitter = jitter
        self._mqtt5 = True
        self._is_agreed = False
        self._max_qos = 1
        self._may_retain = True

    async def run(self) -> None:
        """Keeps a connection until cancelled; then ends it in order."""
        tries = 0
        clock = asyncio.get_running_loop().time
        while True:
            link = Link(
                self._options, self._listener, mqtt5=self._mqtt5, max_qos=self._max_qos, may_retain=self._may_retain
            )
            began_s = clock()
            try:
                is_resumed = await link.open()
                self._is_agreed = True
                self._listener.connected(link, is_resumed=is_resumed)
                why = await link.closed()
                if link.is_good or clock() - began_s >= STABLE_S:
                    tries = 0
            except BrokerError as error:
                why = str(error)
                self._learn(error)
            finally:
                link.close()
            self._listener.disconnected(why)
            tries += 1
            await asyncio.sleep(self._jitter() * min(MAX_RETRY_S, FIRST_RETRY_S * 2 ** min(tries - 1, 16)))

    def _learn(self, error: BrokerError) -> None:
        """What an attempt that failed tells of the broker."""
        if error.code == NO_QOS:
            self._max_qos = 0
        elif error.code == NO_RETAIN:
            self._may_retain = False
        elif not self._is_agreed and error.code in (None, WRONG_VERSION) and not error.is_away:
            # A broker of MQTT 3.1.1 says so, or hangs up: then the other version is tried. One that has accepted a
            # connection before is only away.
            self._mqtt5 = not self._mqtt5
