"""Tables of conf.d that several tests of a whole relay begin with."""

HOOK = """
[source.braze]
type = "currents"
path = "/currents"
[runtime]
drain = "1s"
[connector.hook]
type = "http"
url = "%s"
"""
"""A source, and a connector that has to go on whatever becomes of others."""
