"""What CRI-O and newer runtimes do otherwise, by a server that answers as they do. CRI-O itself runs the suite of all runtimes where
PINNACE_CRIO names it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fakes.criserver import Call, CriServer, Failure

from pinnace.core.base.runtime import ContainerConfig, Credential, PullFailed, RuntimeFailed, SandboxConfig, Security
from pinnace.core.pods.cri import messages
from pinnace.core.pods.cri.grpc import Channel
from pinnace.core.pods.cri.images import CriImages
from pinnace.core.pods.cri.runtime import CriRuntime

BARE = "ab" * 32
FULL = f"sha256:{BARE}"
SANDBOX = SandboxConfig("web", "default", "1-2", 0, "web", Path("/logs"), cgroup_parent="/kubepods/burstable/pod1-2")


def config(image: str) -> ContainerConfig:
    return ContainerConfig("main", 0, image, "example.org/web:1", "main/0.log", security=Security(run_as_user=0))


@pytest.fixture
def socket() -> Iterator[Path]:
    with TemporaryDirectory(prefix="cri-", dir="/tmp") as folder:
        yield Path(folder) / "crio.sock"


@pytest.fixture
async def server(socket: Path) -> AsyncIterator[CriServer]:
    image = messages.Image(id=BARE, repo_tags=("example.org/web:1",), size=7, pinned=True, uid=messages.Int64Value(value=0))

    def image_status(body: bytes) -> messages.ImageStatusResponse:
        asked = messages.ImageRequest.decode(body).image
        return messages.ImageStatusResponse(image=image if asked is not None and asked.image in (BARE, "example.org/web:1") else None)

    async with CriServer(socket) as made:
        made.methods |= {
            "Version": lambda _: messages.VersionResponse(runtime_name="cri-o", runtime_version="1.34.0"),
            "RuntimeConfig": lambda _: messages.RuntimeConfigResponse(linux=messages.LinuxRuntimeConfiguration(cgroup_driver=0)),
            "Status": lambda _: messages.StatusResponse(status=messages.RuntimeStatus()),
            "RunPodSandbox": lambda _: messages.SandboxId(pod_sandbox_id="s1"),
            "CreateContainer": lambda _: messages.ContainerId(container_id="c1"),
            "ListContainers": lambda _: messages.ListContainersResponse(),
            "ListPodSandbox": lambda _: messages.ListPodSandboxResponse(),
            "ListImages": lambda _: messages.ListImagesResponse(images=(image,)),
            "ImageStatus": image_status,
            "RemoveImage": lambda _: messages.Empty(),
        }
        yield made


@pytest.fixture
async def runtime(server: CriServer) -> AsyncIterator[CriRuntime]:
    made = CriRuntime(server.endpoint, request_seconds=10)
    await made.start()
    yield made
    await made.close()


def asked(server: CriServer, method: str) -> bytes:
    return next(body for name, body in reversed(server.asked) if name == method)


async def test_name_and_version(runtime: CriRuntime) -> None:
    state = await runtime.state()
    assert (state.name, state.version, state.problem, runtime.name) == ("cri-o", "1.34.0", "", "cri-o")


async def test_cgroup_is_a_slice_where_the_runtime_says_systemd(runtime: CriRuntime, server: CriServer) -> None:
    await runtime.run_sandbox(SANDBOX)
    sent = messages.RunPodSandboxRequest.decode(asked(server, "RunPodSandbox")).config
    assert sent is not None
    assert sent.linux is not None
    assert sent.linux.cgroup_parent == "kubepods-burstable-pod1_2.slice"


async def test_cgroup_driver_of_the_settings_counts_where_the_runtime_does_not_say(server: CriServer) -> None:
    del server.methods["RuntimeConfig"]
    for driver, parent in (("cgroupfs", "/kubepods/burstable/pod1-2"), ("systemd", "kubepods-burstable-pod1_2.slice")):
        runtime = CriRuntime(server.endpoint, cgroup_driver=driver)
        await runtime.run_sandbox(SANDBOX)
        sent = messages.RunPodSandboxRequest.decode(asked(server, "RunPodSandbox")).config
        assert sent is not None
        assert sent.linux is not None
        assert sent.linux.cgroup_parent == parent
        await runtime.close()


async def test_image_ids_have_an_algorithm_for_us_and_none_for_it(runtime: CriRuntime, server: CriServer) -> None:
    (listed,) = await runtime.images.images()
    assert (listed.id, listed.user, listed.is_pinned) == (FULL, "0", True)
    assert await runtime.images.image(FULL) == listed
    await runtime.create_container("s1", config(FULL), SANDBOX)
    sent = messages.CreateContainerRequest.decode(asked(server, "CreateContainer")).config
    assert sent is not None
    assert sent.image is not None
    assert (sent.image.image, sent.image.user_specified_image) == (BARE, "example.org/web:1")
    await runtime.images.remove(FULL)
    removed = messages.ImageRequest.decode(asked(server, "RemoveImage")).image
    assert removed is not None
    assert removed.image == BARE


async def test_container_names_its_image_by_full_id(runtime: CriRuntime, server: CriServer) -> None:
    listed = messages.Container(id="c1", pod_sandbox_id="s1", image_ref=BARE, state=2, metadata=messages.ContainerMetadata(name="main"))
    status = messages.ContainerStatus(
        id="c1", state=2, exit_code=137, image_id=BARE, image_ref=f"example.org/web@{FULL}", finished_at=5 * 10**9
    )
    server.methods["ListContainers"] = lambda _: messages.ListContainersResponse(containers=(listed,))
    server.methods["ContainerStatus"] = lambda _: messages.ContainerStatusResponse(status=status)
    (container,) = await runtime.containers()
    assert (container.image, container.image_ref) == (FULL, f"example.org/web@{FULL}")
    assert (container.exit_code, container.reason, container.finished_at) == (137, "Error", 5.0)
    with pytest.raises(RuntimeFailed, match="in use"):
        await runtime.images.remove(FULL)


async def test_events_wake_the_pods_they_name(runtime: CriRuntime, server: CriServer) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    runtime.on_change(told.put_nowait)

    async def two(call: Call) -> None:
        metadata = messages.PodSandboxMetadata(uid="pod-1")
        await call.push(messages.ContainerEventResponse(container_id="c1", pod_sandbox_status=messages.PodSandboxStatus(metadata=metadata)))
        await asyncio.Event().wait()

    server.streams["GetContainerEvents"] = two
    task = asyncio.create_task(runtime.run())
    try:
        async with asyncio.timeout(10):
            assert await told.get() == "pod-1"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("failure", [Failure(12, "not here"), Failure(2, "pod events are off"), None])
async def test_without_events_it_lists(runtime: CriRuntime, server: CriServer, failure: Failure | None) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    runtime.on_change(told.put_nowait)

    async def end(_: Call) -> None:
        if failure is not None:
            raise failure

    server.streams["GetContainerEvents"] = end
    task = asyncio.create_task(runtime.run())
    try:
        metadata = messages.PodSandboxMetadata(name="web", uid="pod-2")
        sandbox = messages.PodSandbox(id="s2", metadata=metadata)
        server.methods["ListPodSandbox"] = lambda _: messages.ListPodSandboxResponse(items=(sandbox,))
        async with asyncio.timeout(10):
            assert await told.get() == "pod-2"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [name for name, _ in server.asked].count("GetContainerEvents") == 1


async def test_runtime_that_is_not_ready_says_why(runtime: CriRuntime, server: CriServer) -> None:
    conditions = (
        messages.RuntimeCondition(type="RuntimeReady", status=False, message="storage is broken"),
        messages.RuntimeCondition(type="NetworkReady", status=False, reason="NetworkPluginNotReady"),
        messages.RuntimeCondition(type="Other", status=False),
    )
    server.methods["Status"] = lambda _: messages.StatusResponse(status=messages.RuntimeStatus(conditions=conditions))
    state = await runtime.state()
    assert state.problem == "cri-o says: storage is broken"
    assert state.network_problem.startswith("cri-o says: NetworkPluginNotReady; put a CNI configuration")


async def test_pulls_at_once_with_different_credentials_are_apart(server: CriServer, runtime: CriRuntime) -> None:
    """A wrong password spoils nobody else's pull, and a right one opens no door to others."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def pull(body: bytes) -> messages.PullImageResponse | Failure:
        auth = messages.PullImageRequest.decode(body).auth
        begun.set()
        await go_on.wait()
        return messages.PullImageResponse(image_ref=BARE) if auth is not None and auth.password == "right" else Failure(2, "denied")

    server.methods["PullImage"] = pull
    wrong = asyncio.create_task(runtime.images.pull("example.org/web:1", (Credential("example.org", "pi", "wrong"),)))
    await begun.wait()
    right = asyncio.create_task(runtime.images.pull("example.org/web:1", (Credential("example.org", "pi", "right"),)))
    without = asyncio.create_task(runtime.images.pull("example.org/web:1"))
    await asyncio.sleep(0)
    go_on.set()
    assert (await right).id == FULL
    for each in (wrong, without):
        with pytest.raises(PullFailed, match="denied"):
            await each


async def test_pull_that_hangs_is_given_up_and_may_be_tried_again(server: CriServer, socket: Path) -> None:
    hangs = asyncio.Event()

    async def pull(_: bytes) -> messages.PullImageResponse:
        if not hangs.is_set():
            hangs.set()
            await asyncio.Event().wait()
        return messages.PullImageResponse(image_ref=BARE)

    async def none() -> frozenset[str]:
        return frozenset()

    server.methods["PullImage"] = pull
    channel = Channel(socket)
    images = CriImages(channel, request_seconds=10, in_use=none, pinned=none, wants_bare_ids=lambda: True, pull_seconds=0.2)
    try:
        with pytest.raises(PullFailed, match=r"not done with it \(no answer within 0.2 s\)") as caught:
            await images.pull("example.org/web:1", (Credential("example.org", "pi", "secret"),))
        assert (caught.value.reason, caught.value.is_unreachable) == ("ErrImagePull", True)
        assert [name for name, _ in server.asked].count("PullImage") == 1, "a silent registry is not asked again with the next credential"
        assert (await images.pull("example.org/web:1")).id == FULL
    finally:
        await images.close()
        channel.close()


async def test_command_that_took_too_long_is_answered_with_no_exit_code(runtime: CriRuntime, server: CriServer) -> None:
    server.methods["ExecSync"] = lambda _: messages.ExecSyncResponse(exit_code=-1, stderr=b"command timed out")
    with pytest.raises(TimeoutError, match="longer than 3 s"):
        await runtime.exec_sync("c1", ("sleep", "1000"), 3)


@pytest.mark.parametrize("goes", ["container", "sandbox"])
async def test_what_runs_is_killed_before_it_is_to_go(runtime: CriRuntime, server: CriServer, goes: str) -> None:
    """Left to itself CRI-O asks it to end, and waits until the call's time is nearly over."""
    listed = (messages.Container(id="c1", state=messages.CONTAINER_RUNNING), messages.Container(id="c2", state=2))
    for method in ("StopContainer", "RemoveContainer", "StopPodSandbox"):
        server.methods[method] = lambda _: messages.Empty()
    server.methods["ListContainers"] = lambda _: messages.ListContainersResponse(containers=listed)
    await (runtime.remove_container("c1") if goes == "container" else runtime.stop_sandbox("s1"))
    wanted = messages.ListContainersRequest.decode(asked(server, "ListContainers")).filter
    assert wanted is not None
    assert (wanted.id, wanted.pod_sandbox_id) == (("c1", "") if goes == "container" else ("", "s1"))
    assert [name for name, _ in server.asked][-2:] == ["StopContainer", "RemoveContainer" if goes == "container" else "StopPodSandbox"]
    stop = messages.StopContainerRequest.decode(asked(server, "StopContainer"))
    assert (stop.container_id, stop.timeout) == ("c1", 0)
