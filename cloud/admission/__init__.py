"""Webhooks the API server calls: the conversion of devices and device models between their versions."""
