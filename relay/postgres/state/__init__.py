"""The tables of the cluster beside its events. One module holds the SQL of one table."""
