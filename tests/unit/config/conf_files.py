"""Write files of a configuration, and list what `load` finds in them."""

import pytest

from relay.config.load import load
from relay.config.mistake import ConfigError

PLUGINS = """
from pathlib import Path
from relay.api import *

class Open(Source, type="open"):
    def decode(self, request):
        raise Malformed("no event")

class Hook(Open, type="hook"):
    def authorize(self, request):
        pass

class Post(Connector, type="post"):
    class Settings(ConnectorSettings):
        url: HttpUrl = "https://a.example"
        token: Secret | None = None
        keys: dict[str, Secret] = {}
        headers: dict[str, str] = {}
        loud: bool = False
        ends: tuple[str, ...] = ()
        folder: Path = Path(".")

    async def deliver(self, batch):
        pass

class Frail(Post, type="frail"):
    class Settings(ConnectorSettings):
        size: int

        def contradictions(self):
            yield "size", str(self.size + 1)

class Same(Filter):
    def apply(self, event):
        return event

class Shout(Same, type="shout"):
    class Settings(FilterSettings):
        fields: tuple[str, ...] = ()

class Share(Same, type="share"):
    class Settings(FilterSettings):
        rate: float

class Odd(Same, type="odd"):
    class Settings(FilterSettings):
        @classmethod
        def model_validate_json(cls, text, *, strict):
            raise KeyError("oops")
"""
SOURCE = '[source.s]\ntype = "hook"\npath = "/s"\n'
CONNECTOR = '[connector.c]\ntype = "post"\n'


def write(folder, **files):
    for name, text in files.items():
        path = folder / (name.replace("__", "/").replace("_", "-") + ".toml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def mistakes(folder, registry, **options):
    with pytest.raises(ConfigError) as error:
        load([folder], registry, **options)
    return [str(mistake) for mistake in error.value.mistakes]


def warnings(folder, registry, **options):
    return [str(warning) for warning in load([folder], registry, **options).warnings]
