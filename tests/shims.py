"""Makes aioresponses 0.7.9 work with aiohttp 3.14, whose answers want to know what the request has written.

Switches itself off once aiohttp asks for that no more; a test of the plugins fails once aioresponses knows it.
"""

import inspect
from typing import Any
from unittest.mock import Mock

import aiohttp
import aioresponses.core

NEEDED = "stream_writer" in inspect.signature(aiohttp.ClientResponse.__init__).parameters


class _Response(aiohttp.ClientResponse):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", Mock(output_size=0))
        super().__init__(*args, **kwargs)


if NEEDED:
    aioresponses.core.ClientResponse = _Response
