"""The link to the cloud: certificates, the WebSocket connection, reconnecting (docs/protocol.md, 1 and 2).

`certificates.py` keeps the node's certificate, with `bootstrap.py` (the cloud's port 10002) and `openssl.py` (keys and requests, made by
a child process). `link.py` drives one connection's session, `dial.py` makes the connection, `service.py` is the life cycle and the Uplink
of the other services. What messages mean is decided by those who listen; what waits for the cloud is in the outbox.
"""
