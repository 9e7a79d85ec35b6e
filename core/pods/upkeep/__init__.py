"""What keeps a node with pods in order: cgroups, eviction, garbage, logs, static pods, shutdown, events."""
