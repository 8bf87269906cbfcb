"""The tables [test.NAME]: an event, and what is expected of connectors. `relay test` tries them.

A daemon only checks the tables. A process whose configuration has no such table does not import this package.
"""
