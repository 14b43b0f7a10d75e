"""Everything on the one port: WebSocket endpoints, the HTTP API, the built dashboard, health and metrics."""
