"""The store in PostgreSQL: partitions that outlive any one machine, and that several relays share."""
