"""The edge's memory: the one SQLite store with its outbox, and the sync that fills it from the cloud. Nothing else opens the file."""
