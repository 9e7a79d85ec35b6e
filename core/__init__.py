"""The edge agent.

`agent.py` is the composition root: it builds every service and hands each its ports. `base/` is the ground floor that cloud and mappers
share. `hub/` is the link to the cloud, `meta/` the store and its synchronisation, `twins/` the device twins, `eventbus/` MQTT, `node/`
the Node object, its status and lease. Siblings never import each other; they meet through the Protocols of `base.ports`.
"""
