"""The decoder of CRI's messages under damaged bytes: Malformed or a message, as a plain reader sees it, and the same once written again.

python tests/fuzz/fuzz_cri.py --runs 200000 [--seed N]
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.mutations import main, mutated
from oracles import protobuf

from pinnace.core.pods.cri import messages
from pinnace.core.pods.cri.protobuf import Malformed, Message

KINDS: tuple[type[Message], ...] = (
    messages.ListContainersResponse,
    messages.ContainerStatusResponse,
    messages.ListPodSandboxResponse,
    messages.ContainerEventResponse,
    messages.ListImagesResponse,
    messages.ListContainerStatsResponse,
    messages.ExecSyncResponse,
    messages.CreateContainerRequest,
)


def samples() -> list[bytes]:
    metadata = messages.ContainerMetadata(name="main", attempt=3)
    container = messages.Container(
        id="c" * 64, pod_sandbox_id="s" * 64, metadata=metadata, image=messages.ImageSpec(image="sha256:" + "0" * 64), state=2,
        created_at=1_795_882_681_127_847_000, labels={"a": "1", "io.kubernetes.pod.uid": "1-2"}, annotations={"b": "two words"},
    )  # fmt: skip
    status = messages.ContainerStatus(id="c", metadata=metadata, state=2, exit_code=-1, reason="OOMKilled", labels={"a": "é"})
    sandbox = messages.PodSandbox(id="s", metadata=messages.PodSandboxMetadata(name="n", uid="u", attempt=2**32 - 1), state=1)
    stats = messages.ContainerStats(cpu=messages.CpuUsage(timestamp=5, usage_core_nano_seconds=messages.UInt64Value(value=2**64 - 1)))
    security = messages.LinuxContainerSecurityContext(
        run_as_user=messages.Int64Value(), supplemental_groups=(0, 5, 2**31), no_new_privs=True
    )
    config = messages.ContainerConfig(command=("a", ""), linux=messages.LinuxContainerConfig(security_context=security))
    return [
        messages.ListContainersResponse(containers=(container, container)).encode(),
        messages.ContainerStatusResponse(status=status).encode(),
        messages.ListPodSandboxResponse(items=(sandbox,)).encode(),
        messages.ListImagesResponse(images=(messages.Image(id="i", repo_tags=("a", "b"), size=7, pinned=True),)).encode(),
        messages.ListContainerStatsResponse(stats=(stats,)).encode(),
        messages.ExecSyncResponse(stdout=b"\xff\x00", exit_code=3).encode(),
        messages.CreateContainerRequest(pod_sandbox_id="s", config=config).encode(),
    ]


SAMPLES = samples()
TOKENS = [b"\x0a", b"\x12", b"\x18", b"\x42", b"\x0a\x00", b"\x80", b"\x80" * 10, b"\xff" * 9 + b"\x01", b"\x09", b"\x0d", b"\x0b", b"\x0c",
          b"\x00", b"\x0a\x02\xc3\xa9", b"\x0a\x01\xff", b"\x2a\x02\x01\x02", b"\xff\xff\xff\xff\x0f"]  # fmt: skip


def case(source: random.Random) -> None:
    data = mutated(source, SAMPLES, TOKENS)
    kind = source.choice(KINDS)
    try:
        protobuf.fields(data)
        is_sound = True
    except protobuf.Refused:
        is_sound = False
    try:
        message = kind.decode(data)
    except Malformed:
        return  # also when only something within it is broken
    assert is_sound, (kind, data)
    again = kind.decode(message.encode())
    assert again == message, (kind, data)
    assert again.encode() == message.encode(), (kind, data)


if __name__ == "__main__":
    sys.exit(main(__doc__, case))
