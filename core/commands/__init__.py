"""The edge's sub-commands of `pinnace`, one module each."""
