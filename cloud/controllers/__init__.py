"""What cloudcore does: one module a reconciler, joined by `router.py` for what nodes send and by `sync.py` for what nodes should know."""
