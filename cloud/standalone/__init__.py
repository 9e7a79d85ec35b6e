"""An embedded Kubernetes API server on SQLite, for one machine, for trying out and for tests (SCOPE.md says what it leaves out).

Here: storage and watch cache, the rules of reading and writing, discovery, custom resources, identities and the few controllers that
clients expect to run beside an API server. Not here: anything about edge nodes or devices; cloudcore talks to this server as to any other.

A request's way: `http` (bytes, TLS) → `requests` (what is asked) → `identity`, `access` (who may) → `reading`, `watches`, `writes`,
`deletion`, `subresources` → `state` (rows in memory) → `store` (SQLite, durable) → `state` again, which publishes
to the watchers → the answer.
"""
