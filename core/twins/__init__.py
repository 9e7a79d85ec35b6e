"""Device twins at the edge: membership, desired and reported values, versions, states (docs/protocol.md, devices).

`service.py` is the way in; `desired.py` reads what the cloud wants, `inbox.py` and `clients.py` what mappers say, `device.py` is one
device with its rows in the store, `publisher.py` tells mappers, `reports.py` the cloud. The rules of a twin are in `pinnace.ext.twindiff`.
"""
