"""The tables of the cluster beside its events. One module holds the SQL of one table.

Functions with a connection and a partition are parts of transactions. They raise psycopg.Error.
"""
