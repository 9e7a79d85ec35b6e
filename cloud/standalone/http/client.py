"""The HTTPS client that calls conversion webhooks."""

from __future__ import annotations

import ssl

import aiohttp


class WebhookClient:
    """Keeps connections open between calls. Implements `conversion.Post`."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes, context: ssl.SSLContext) -> tuple[int, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=16), trust_env=False)
        try:
            async with self._session.post(url, data=body, headers={"Content-Type": "application/json"}, ssl=context) as response:
                return response.status, await response.read()
        except aiohttp.ClientError as error:
            raise OSError(str(error)) from error
        except ValueError as error:
            raise OSError(f"not a usable URL: {error}") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
