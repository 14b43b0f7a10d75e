"""States of bridges for tests: one in both directions, one that waits, and one that only subscribes."""

from __future__ import annotations

from hub.model.bridge import BridgeState, InboundCounts, OutboundCounts

INBOUND = InboundCounts(
    received=20, taken=11, undecodable=2, retained=3, own=4, copies=6, accepted=40, refused=7, duplicates=5
)
OUTBOUND = OutboundCounts(
    published=9, acknowledged=6, in_flight=3, passed_over=2, offset=70, lag=8, too_large=1, refused=4, missed=5
)
BOTH = BridgeState("plant", "mqtts://broker:8883", "5", "connected", 7, None, INBOUND, OUTBOUND, {"gap": 3})
WAITING = BridgeState("cabin", "mqtt://cabin:1883", "", "waiting", 8, "it refuses connections", None, OutboundCounts())
ONLY_IN = BridgeState("field", "mqtt://field:1883", "3.1.1", "connecting", 9, None, InboundCounts(), None)
