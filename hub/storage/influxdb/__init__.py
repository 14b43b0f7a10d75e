"""History in InfluxDB 1 and 2: writes in line protocol and queries in InfluxQL, over HTTP."""
