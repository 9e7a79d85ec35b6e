"""The mappers' sub-commands of `pinnace`, one module each."""
