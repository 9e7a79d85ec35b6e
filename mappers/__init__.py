"""The south side: one package a protocol, each written with `mappers.sdk` and with nothing else of ours but the ground floor."""
