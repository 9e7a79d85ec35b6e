"""What both ends must agree on, as data: resource keys, envelopes, twins, topics, message classes. No I/O, no event loop."""
