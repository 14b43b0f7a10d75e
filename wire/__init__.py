"""The protocol: the model, the messages, their codecs and limits, and the session state machines.

Pure: no I/O, no clock, no randomness, no asyncio. The hub and the agents share it; the golden messages in tests/wire
keep the dashboard consistent with it.
"""
