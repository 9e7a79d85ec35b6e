"""The reference mapper: a room with a thermostat, in memory. Read `room.py` first; it is all that a mapper of your own needs."""
