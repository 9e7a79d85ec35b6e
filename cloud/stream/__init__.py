"""The cloud's end of the tunnel: nodes connect on 10004, the API server asks on 10003 (docs/protocol.md, Tunnel)."""
