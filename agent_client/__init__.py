"""The one client of the device protocol: connect, hello, window and reconnect; used by the agent and the importer."""
