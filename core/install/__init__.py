"""Laying a frozen edge down on a machine: versions side by side below /opt/pinnace, one symlink that says which is used, systemd's units.

What belongs here works on files below a given root, so that an image is filled like a machine. Starting and stopping is systemd's;
configuration of the node is `pinnace join`'s; the database is asked by the command, and its schema handed in as a number.
"""
