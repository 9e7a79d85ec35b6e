"""The cloud's sub-commands of `pinnace`, one module each."""
