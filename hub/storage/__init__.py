"""History: the store's sink for the journal, its accounting, and the stores themselves, DuckDB and InfluxDB."""
