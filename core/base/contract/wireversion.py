"""How two of ours recognise each other in the WebSocket upgrade; a peer without these headers is spoken to exactly as upstream does."""

from __future__ import annotations

from typing import Final

HEADER: Final = "Pinnace-Wire"
"""Sent by the edge in the upgrade request with the newest wire version it knows; echoed by a cloud of ours with the version in use."""

MACHINE: Final = "Pinnace-Machine"
"""Sent by the edge with its machine-id, when it joins and when it connects: by it a cloud of ours tells two machines of one name apart."""

CURRENT: Final = 1
"""Version 1: binary WebSocket messages are packed frames (one or many envelopes), any number of pushes is in flight up to the window,
and acknowledgements are batched. Text messages keep their upstream meaning at any time."""


def agree(offer: str) -> int:
    """The version to speak with a peer whose upgrade header says `offer` ("" when it has none); 0 for anything that is no version."""
    return min(int(offer), CURRENT) if offer.isascii() and offer.isdigit() and len(offer) < 10 else 0
