"""What both ends say: the model, the messages, their codecs and limits, and the session state machines.

Pure: no I/O, no clock, no randomness, no asyncio. Owned by neither end; the hub, the agents and (through the golden
messages in tests/wire) the dashboard follow it.
"""
