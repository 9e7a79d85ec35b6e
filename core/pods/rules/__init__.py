"""What a kubelet decides, one pure function a rule: no I/O, no clock, no loop."""
