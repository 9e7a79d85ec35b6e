"""A machine becomes a node, or is told why not."""

from __future__ import annotations

from rig.hub import Cloud, EdgeMaker, until


async def test_joins_with_the_token_and_connects(cloud: Cloud, make_edge: EdgeMaker) -> None:
    edge = make_edge("192.168.4.22-pi2")
    edge.start()
    await until(lambda: edge.link.connected)
    assert edge.link.peer_wire == 1
    assert edge.health.problems == {}
    assert cloud.hub.connected() == {"192.168.4.22-pi2"}
    files = [edge.settings.tls_ca_file, edge.settings.tls_cert_file, edge.settings.tls_private_key_file]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600] * 3
