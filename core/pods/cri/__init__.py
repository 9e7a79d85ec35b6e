"""The runtime interface over CRI v1: containerd, CRI-O."""
