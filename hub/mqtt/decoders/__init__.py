"""Decoders: payload formats, presets and topic mappings that turn messages into readings."""
