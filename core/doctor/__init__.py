"""What a machine needs to be a node, and what is wrong with it. Each matter is one module: a reader of facts and a pure check of them.

Readers look below a given root, so that tests can show them a machine that is not there. Only `pinnace doctor` loads this."""
