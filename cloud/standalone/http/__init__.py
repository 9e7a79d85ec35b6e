"""The HTTPS side of the embedded API server: the only place that knows aiohttp."""
