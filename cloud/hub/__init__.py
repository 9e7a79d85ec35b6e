"""Where nodes come in: certificates and join tokens, the bootstrap on 10002, the WebSocket hub on 10000 (docs/protocol.md, 1 and 2).

`pki.py` and `tokens.py` are pure, `vault.py` keeps their results as Secrets; `bootstrap.py` hands them out. `acceptor.py` lets nodes
in by their certificates, `connection.py` drives one session over its socket, `downlinks.py` holds what waits for a node,
`hub.py` is the NodeHub that the controllers see, `outbox.py` keeps user messages for absent nodes on disk.
"""
