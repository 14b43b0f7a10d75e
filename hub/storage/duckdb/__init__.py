"""History in DuckDB: readings, minutes and hours in one file, written and queried in this process."""
