"""What a mapper is written with: declare a device in plain Python, and `serve` it. No protocol of any device belongs here.

device = Device("lamp")

@device.writes("switch")
async def switch(value: str) -> None: ...

serve(device, Broker.parse("tcp://127.0.0.1:1883"))
"""

from pinnace.mappers.sdk.connection import Broker
from pinnace.mappers.sdk.mapper import Mapper, Timing
from pinnace.mappers.sdk.properties import Access, BadValue, Device, DeviceFault, Property
from pinnace.mappers.sdk.runner import serve
from pinnace.mappers.sdk.topics import Dialect

__all__ = ["Access", "BadValue", "Broker", "Device", "DeviceFault", "Dialect", "Mapper", "Property", "Timing", "serve"]
