"""All of it on one machine: what `pinnace up`, `status` and `down` are made of.

Every part runs as the process it is elsewhere and is looked at only through its public interfaces: the Kubernetes API, MQTT, the pins.
"""
