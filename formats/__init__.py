"""One way to read what others send: bytes to frames, frames to fields, fields to rows. Pure.

A clock, a time zone, files and sockets stay with the caller. docs/formats.md describes the formats and the rules.
"""
