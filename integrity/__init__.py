"""Detection of damaged bytes in SQLite databases, for the agent's spool and the hub's files."""
