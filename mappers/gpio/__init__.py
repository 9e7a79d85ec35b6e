"""Lamps on GPIO pins: one property a lamp, ON or OFF. What a pin is called and how it is driven lives here, MQTT in the sdk."""
