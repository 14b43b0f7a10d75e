"""The bounds of the protocols and their reasons. docs/protocol.md says what happens at a bound."""

from __future__ import annotations

MAX_BATCH_BYTES = 256 * 1024
"""Largest frame an agent may send. 10,000 readings packed are 160 kB; larger frames only add latency and memory:
the hub holds at most one undecoded frame per connection."""

MAX_LIVE_MESSAGE_BYTES = 160 * 1024
"""Largest message from a dashboard: a subscription of MAX_SELECTORS devices with the longest ids fits, or of as many
metrics. A subscription with as many of both has to be split."""

MAX_METRICS = 1024
"""Metrics of one device. Register a larger device as several; each metric costs the hub a series."""

MAX_TAGS = 32
"""Tags of one device: they become tags in InfluxDB, where each multiplies cardinality."""

MAX_DEVICE_ID = 64
MAX_METRIC_NAME = 128
MAX_UNIT = 32
MAX_DESCRIPTION = 256
MAX_TAG_KEY = 64
MAX_TAG_VALUE = 256
MAX_REASON = 256
MAX_MESSAGE = 512
MAX_TOKEN = 256

MAX_SOURCES = 16
"""Sources of one device: the ports or files that its agent reads. The hub keeps their states in memory."""

MAX_SOURCE_NAME = 128
"""A path under /dev/serial/by-id has about 80 characters."""

MAX_SOURCE_ERROR = 256

MAX_EVENT_KIND = 64
"""Characters of the kind of an event: some words, such as "restarted"."""

MAX_REFUSALS = 32
"""Reasons in one report of what a source refused. There are about twenty."""

MAX_REFUSED_RAW = 512
"""Characters of the first line with each reason: enough to recognise it. A report is smaller than the largest frame."""

MAX_REFUSED_VALUE = 128
MAX_SETTING = 256

MAX_COMMANDS = 128
"""Commands of one device. A person chooses one of them from a list."""

MAX_COMMAND_NAME = 64
MAX_COMMAND_CODE = 32

MAX_PARAMETERS = 32
"""Parameters of one command: they are one form on the page."""

MAX_CHOICES = 64
MAX_PARAMETER_TEXT = 1024

MAX_COMMAND_BYTES = 4096
"""Bytes of the parameters of a command, and of its result, each as JSON. The hub keeps them with its history."""

MAX_RESULT_DEPTH = 32
"""Levels of lists and objects in the result of a command: programs read JSON recursively, and nobody reads more."""

MAX_COMMANDS_SENT = 16
"""Commands that an agent has not yet received, of one connection. Further ones wait in the hub, in their order."""

MAX_COMMAND_TIMEOUT_MS = 3_600_000
"""An hour: a command that takes longer is better modelled as one that starts and a metric that shows progress."""

MAX_SETTINGS = 64
"""Settings of one device, each with a desired value. A report of all of them, each with a problem, fits its frame."""

MAX_SETTINGS_BYTES = 16 * 1024
"""Bytes of the desired values of a device as JSON, and of the reported ones: 64 numbers with the longest names are
6 kB. The hub keeps both in memory."""

MAX_STRING_VALUE_BYTES = 64 * 1024
"""Longest value of a string metric, in UTF-8 bytes; InfluxDB's own limit for a string field is 64 KiB."""

MAX_TIMES = 65_536
"""Rows of one batch; reached only by packed columns without values, since the frame bound comes first."""

MAX_REFUSED_COLUMNS = 16
"""Metrics that a reject names; `readings` counts the refused values of all. They are all in quarantine."""

MAX_ROW_RANGES = 16
"""Ranges of rows of one metric that a reject names: it stays below 8 kB."""

MAX_SEQ = 2**53 - 1
"""Sequence numbers and offsets stay exact in a browser's float64."""

MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**63 - 1
"""Integers are stored as signed 64 bits in every store."""

MAX_TIME_NS = 2**63 - 1
"""Nanoseconds since 1970 UTC in a signed 64-bit integer: until the year 2262."""

DEFAULT_WINDOW = 256
"""Unacknowledged batches per device. The batches that all devices send at once block the hub's event loop: with 20
devices and 14 µs a batch for 70 ms. One device alone sends 256 batches in each round trip and commit: 4,000/s at 50 ms,
more than any sensor, and a backlog of a million in four minutes. MAX_PENDING_BYTES also bounds the hub's memory for
them."""

MAX_PENDING_BYTES = 64 * 1024 * 1024
"""Bytes of all devices that are accepted and not yet durable. At this bound the hub stops reading its sockets until the
disk has caught up."""

AUTHENTICATION_SECONDS = 5.0
"""Longest time from the opening of a connection to a valid token: an unauthenticated socket must not stay open."""

MAX_FRAGMENTS = 1024
"""Frames of one message. The largest message fits into frames of 256 bytes. Empty frames count too: they cost the hub
as much as others, and a message of them would have no end."""

MAX_CONTROL_RATE = 10
"""Pings, pongs and close frames a second from one client. Clients send one every 10 to 60 seconds."""

MAX_CONTROL_BURST = 100
"""Pings, pongs and close frames at once: those of a client whose network was interrupted for a minute."""

MAX_FRAMES_BEFORE_AUTHENTICATION = 1024
"""Frames of all kinds from a client without a valid token: the longest hello in fragments of 256 bytes."""

MAX_BYTES_BEFORE_AUTHENTICATION = 288 * 1024
"""Bytes of these frames, with their headers: the longest hello, and 32 KiB for its fragments and for pings."""

MAX_SUBSCRIPTIONS = 256
"""Per dashboard connection: a wall of 4K holds fewer charts."""

MAX_HISTORY_SPAN_MS = 10 * 366 * 86_400_000
"""Ten years: the longest history of a chart; use the API for more."""

MAX_SELECTORS = 1024
"""Device and metric patterns in one subscription."""

MAX_HISTORY_POINTS = 4000
"""Points of one series in a history; no screen has more columns."""

MIN_PERIOD_MS = 20
MAX_PERIOD_MS = 60_000
"""Bounds of a subscription's period: no eye follows more than 50 Hz, and slower than a minute is history."""
