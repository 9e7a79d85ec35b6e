"""Small asyncio primitives that know nothing of Pinnace: bounded lanes, back-off, supervision, clocks, children, calls that may hang."""
