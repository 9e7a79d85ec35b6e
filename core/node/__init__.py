"""The node as Kubernetes sees it: its Node object, status and lease (docs/protocol.md, Node, status, lease).

`machine.py` reads what this machine is, `objects.py` makes the Kubernetes objects (pure), `answers.py` reads the cloud's answers,
`service.py` keeps all of it up to date through the link.
"""
