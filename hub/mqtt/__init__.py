"""Bridges to MQTT brokers: messages of a broker become readings of devices, and the hub's readings become messages.

The package does not know the registry or the store. `hub.app.mqtt` connects it to them.
"""
