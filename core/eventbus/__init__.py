"""MQTT: the connections to the brokers, a broker of our own, what goes up to the cloud from there and what comes down.

Topics are read here only as far as needed to tell a device's message from an application's; what twins mean is the twins' business.
"""
