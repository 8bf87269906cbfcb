"""Tables of conf.d, and plugins, that several tests of a whole relay begin with."""

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

CHAT = """
from relay.api import Connector, ConnectorSettings

class Chat(Connector, type="chat"):
    class Settings(ConnectorSettings):
        pass

    async def deliver(self, batch):
        pass
"""
"""A plugin that takes everything."""

DEAF = """
async def deaf():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
"""
"""For a plugin that imports asyncio: what takes no notice of being cancelled."""
