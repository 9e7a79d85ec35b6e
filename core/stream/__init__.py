"""What people ask of a node's pods: logs, exec, attach, port-forward, metrics, through the cloud's tunnel or on the machine itself."""
