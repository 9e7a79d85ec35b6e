"""Small asyncio primitives that know nothing of Pinnace: bounded mailboxes, back-off, toggles, supervision, clocks."""
