"""The settings of the hub: read and checked once. No decoder and no protobuf is imported here."""
