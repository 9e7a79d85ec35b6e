"""What both ends of the tunnel for logs, commands and metrics share: its frames, its channels, HTTP heads. No policy of either end.

`spdy.py` and `spdystreams.py` are what kubectl and container runtimes speak at its ends.
"""
