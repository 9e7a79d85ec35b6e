"""The kernel's own counters of connections, asked for real."""

from __future__ import annotations

import os
import socket

from pinnace.core.footprint import traffic

SIZE = 100_000


def test_bytes_of_a_connection_are_the_kernels() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"x" * SIZE)
            left = SIZE
            while left:
                left -= len(accepted.recv(left))
            known = traffic.connections()
            mine = traffic.inodes(os.getpid())
            ends = {known[each].local: known[each] for each in mine if each in known}
            sender, receiver = ends[client.getsockname()], ends[accepted.getsockname()]
            # The very last acknowledgement may not be in yet; the SYN counts as one byte.
            assert 0 <= sender.sent <= SIZE + 1
            assert receiver.received == SIZE
            assert receiver.wire > SIZE
            assert (receiver.peer, receiver.local) == (sender.local, sender.peer)

            own = {os.fstat(each.fileno()).st_ino for each in (client, accepted)}
            first, second = ({inode} for inode in sorted(own))
            assert traffic.outward(first, second, known) == {}  # what ends in the node itself is not on the wire
            assert set(traffic.outward(first, set(), known)) == first


def test_ipv6_is_counted_as_well() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server, socket.create_connection(server.getsockname()[:2]) as client:
        accepted, _ = server.accept()
        with accepted:
            accepted.sendall(b"x")
            client.recv(1)
            peers = {each.peer: each for each in traffic.connections().values()}
            assert peers[accepted.getsockname()[:2]].received == 1
