"""What a container is: its command, environment, end, and books."""

from __future__ import annotations

import pytest
from contract.runtime.installations import BUSYBOX, ENTRY, SIGNAL, USER, Installation, Quirk
from contract.runtime.pods import TestPod

from pinnace.core.base.runtime import ContainerState, Namespaces, NoSuchContainer, RuntimeFailed


@pytest.mark.parametrize(
    ("command", "args", "said"),
    [
        ((), (), "[entry]\n[cmd]\n"),
        ((), ("a", "b c"), "[entry]\n[a]\n[b c]\n"),
        (("/bin/show", "own"), (), "[own]\n"),
        (("/bin/show", "own"), ("a",), "[own]\n[a]\n"),
    ],
)
async def test_command_and_args_replace_those_of_the_image_as_kubernetes_says(
    pod: TestPod, command: tuple[str, ...], args: tuple[str, ...], said: str
) -> None:
    container = await pod.run(command, args=args, image=ENTRY)
    assert pod.said(container) == said


async def test_environment_is_the_images_then_the_pods_and_the_last_of_two_wins(pod: TestPod) -> None:
    said = await pod.output('echo "$FROM,$KEPT,$NEW,$EMPTY."', image=USER, env=(("NEW", "1"), ("FROM", "pod"), ("NEW", "2"), ("EMPTY", "")))
    assert said == "pod,image,2,.\n"


async def test_path_of_the_image_holds(pod: TestPod) -> None:
    assert await pod.output("echo $PATH") == "/bin\n"


async def test_working_directory_is_the_images_unless_given(pod: TestPod) -> None:
    assert await pod.output("pwd", image=USER) == "/home/app\n"
    assert await pod.output("pwd", image=USER, working_dir="/tmp") == "/tmp\n"
    assert await pod.output("pwd") == "/\n"


async def test_working_directory_that_is_missing_is_made(pod: TestPod) -> None:
    assert await pod.output("pwd", working_dir="/new/place") == "/new/place\n"


@pytest.mark.parametrize(("code", "reason"), [(0, "Completed"), (1, "Error"), (42, "Error"), (255, "Error")])
async def test_end_has_code_and_reason(pod: TestPod, code: int, reason: str) -> None:
    container = await pod.run(("/bin/sh", "-c", f"exit {code}"))
    assert (container.exit_code, container.reason) == (code, reason)
    assert 0 < container.created_at <= container.started_at <= container.finished_at


async def test_end_by_signal_is_128_and_its_number(pod: TestPod) -> None:
    """In the host's pid namespace: the first process of one of its own is not killed from within."""
    await pod.sandbox(namespaces=Namespaces(host_network=True, host_pid=True))
    container = await pod.run(("/bin/sh", "-c", "kill -9 $$"))
    assert (container.exit_code, container.reason) == (137, "Error")


@pytest.mark.bookkeeping
async def test_books_of_a_container(pod: TestPod) -> None:
    container_id = await pod.create(("sleep", "1000"), name="main", attempt=3, labels={"a": "1"}, annotations={"b": "two words"})
    created = await pod.runtime.container(container_id)
    assert created.state is ContainerState.CREATED
    assert created.started_at == created.finished_at == 0.0
    await pod.runtime.start_container(container_id)
    running = await pod.runtime.container(container_id)
    image = await pod.runtime.images.image(BUSYBOX)
    assert image is not None
    assert running.state is ContainerState.RUNNING
    assert (running.name, running.attempt, running.sandbox_id) == ("main", 3, pod.sandbox_id)
    assert running.labels["a"] == "1"
    assert dict(running.annotations) == {"b": "two words"}
    assert (running.image, running.image_name) == (image.id, BUSYBOX)
    assert running.image_ref
    assert running.log_path == pod.logs / "main/0.log"
    assert running.started_at >= running.created_at > 0
    assert running.finished_at == 0.0
    assert running.reason == ""


@pytest.mark.bookkeeping
async def test_containers_of_one_pod_and_of_all(pod: TestPod) -> None:
    one, two = await pod.start(), await pod.create(("true",))
    mine = {each.id: each for each in await pod.runtime.containers(pod.uid)}
    assert set(mine) == {one, two}
    assert mine[one].state is ContainerState.RUNNING
    assert mine[two].state is ContainerState.CREATED
    assert {one, two} <= {each.id for each in await pod.runtime.containers()}
    assert list(await pod.runtime.containers("nobody")) == []


async def test_stop_is_terminate_then_kill(pod: TestPod) -> None:
    polite = await pod.shell("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done")
    await pod.until_said(polite, "up")
    await pod.runtime.stop_container(polite, 20)
    container = await pod.runtime.container(polite)
    assert (container.state, container.exit_code) == (ContainerState.EXITED, 7)
    assert "bye" in pod.said(container)


async def test_stop_kills_after_the_grace(pod: TestPod) -> None:
    deaf = await pod.shell("trap 'echo heard' TERM; echo up; while :; do sleep 0.05; done")
    await pod.until_said(deaf, "up")
    await pod.runtime.stop_container(deaf, 1)
    container = await pod.runtime.container(deaf)
    assert (container.state, container.exit_code, container.reason) == (ContainerState.EXITED, 137, "Error")
    assert "heard" in pod.said(container)


async def test_stop_with_no_grace_kills_at_once(pod: TestPod) -> None:
    deaf = await pod.shell("trap 'echo heard' TERM; echo up; while :; do sleep 0.05; done")
    await pod.until_said(deaf, "up")
    await pod.runtime.stop_container(deaf, 0)
    assert (await pod.runtime.container(deaf)).exit_code == 137


async def test_stop_sends_the_signal_that_the_image_wants(pod: TestPod) -> None:
    text = "trap 'exit 5' USR1; trap 'exit 6' TERM; echo up; while :; do sleep 0.05; done"
    container_id = await pod.shell(text, image=SIGNAL)
    await pod.until_said(container_id, "up")
    await pod.runtime.stop_container(container_id, 20)
    assert (await pod.runtime.container(container_id)).exit_code == 5


@pytest.mark.bookkeeping
async def test_stop_of_what_has_ended_or_never_was_is_nothing(pod: TestPod) -> None:
    container_id = await pod.start()
    await pod.runtime.stop_container(container_id, 0)
    before = await pod.runtime.container(container_id)
    await pod.runtime.stop_container(container_id, 1)
    await pod.runtime.stop_container("0" * 64, 1)
    assert before.state is ContainerState.EXITED
    assert await pod.runtime.container(container_id) == before


@pytest.mark.bookkeeping
async def test_remove_twice(pod: TestPod) -> None:
    container_id = await pod.start()
    await pod.runtime.remove_container(container_id)
    await pod.runtime.remove_container(container_id)
    assert list(await pod.runtime.containers(pod.uid)) == []
    with pytest.raises(NoSuchContainer):
        await pod.runtime.container(container_id)


async def test_start_of_what_is_no_program_tells_so(pod: TestPod, installation: Installation) -> None:
    if Quirk.CHECKS_EARLY in installation.quirks:
        with pytest.raises(RuntimeFailed, match="no such file") as refused:
            await pod.create(("/no/such/program",))
        assert refused.value.reason == "CreateContainerError"
        assert list(await pod.runtime.containers(pod.uid)) == []
        return
    container_id = await pod.create(("/no/such/program",))
    with pytest.raises(RuntimeFailed, match=r"no such file|not found") as caught:
        await pod.runtime.start_container(container_id)
    assert caught.value.reason in ("StartError", "ContainerCannotRun")
    container = await pod.runtime.container(container_id)
    assert (container.state, container.exit_code) == (ContainerState.EXITED, 128)
    assert container.reason in ("StartError", "ContainerCannotRun")
    assert container.message


async def test_remove_ends_what_runs_and_leaves_the_log(pod: TestPod) -> None:
    container_id = await pod.shell("echo up; sleep 1000")
    await pod.until_said(container_id, "up")
    log = (await pod.runtime.container(container_id)).log_path
    await pod.runtime.remove_container(container_id)
    assert log.exists()
    with pytest.raises(NoSuchContainer):
        await pod.runtime.container(container_id)
    assert list(await pod.runtime.containers(pod.uid)) == []
    await pod.runtime.remove_container(container_id)


@pytest.mark.bookkeeping
async def test_container_that_is_not_there(pod: TestPod) -> None:
    with pytest.raises(NoSuchContainer):
        await pod.runtime.container("0" * 64)
    with pytest.raises(RuntimeFailed):
        await pod.runtime.start_container("0" * 64)


async def test_second_attempt_stands_beside_the_first(pod: TestPod) -> None:
    first = await pod.run(("/bin/sh", "-c", "exit 1"), name="main", attempt=0)
    second = await pod.start(name="main", attempt=1, log_path="main/1.log")
    states = {each.attempt: each.state for each in await pod.runtime.containers(pod.uid)}
    assert states == {0: ContainerState.EXITED, 1: ContainerState.RUNNING}
    assert {first.id, second} == {each.id for each in await pod.runtime.containers(pod.uid)}
