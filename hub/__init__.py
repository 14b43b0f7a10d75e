"""The server: it accepts batches, stores them, shows them live and bridges them to MQTT brokers."""
