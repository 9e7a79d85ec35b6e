"""What containers need, made from a pod's spec and from what is stored: volumes, variables, tokens, files, configurations."""
