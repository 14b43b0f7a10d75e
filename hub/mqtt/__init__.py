"""The bridge to MQTT brokers: what they have comes in as if it were devices', what the hub has goes out to them.

An edge: it knows neither the journal nor the registry nor the store. What it needs of them is handed in by hub.app.
"""
