"""Sans-I/O state machines of the hub session, both roles. Bytes and time come in as arguments, events and bytes go out."""
