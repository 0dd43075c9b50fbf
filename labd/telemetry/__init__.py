"""Where figures go: a spool on the disk, from there to InfluxDB, and a store of the last day."""
