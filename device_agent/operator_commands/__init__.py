"""Commands of operators: their record on the disk of the agent, their handlers, and those of agent.toml."""
