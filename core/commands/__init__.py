"""The edge's sub-commands of `pinnace`, one module each; what several of them need is in `parts`."""
