"""What the person reads on the boot partition."""

from __future__ import annotations

from pinnace.core.appliance.report import Report, told
from pinnace.core.appliance.slots import GivenUp
from pinnace.core.appliance.wishes import Fault


def test_says_what_to_mend_and_that_nothing_is_flashed() -> None:
    text = Report("0.1.0", faults=[Fault(3, "node: expected x"), Fault(0, "half a file")], was_node=True).text(0.0)
    assert "2 things to mend:\r\n  line 3: node: expected x\r\n  half a file\r\n" in text
    assert "nothing needs to be flashed" in text
    assert "goes on as the node that it was" in text
    assert "kubectl" not in text


def test_says_that_it_joined() -> None:
    report = Report("0.1.0", name="pi-1", cloud="10.0.0.1: joined", is_joined=True, address="10.0.0.7")
    text = report.text(86400.0)
    assert "1970-01-02 00:00 UTC" in text
    assert [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith(("node", "network", "cloud"))] == [
        "pi-1",
        "10.0.0.7",
        "10.0.0.1: joined",
    ]
    assert "`kubectl get nodes` shows pi-1" in text
    assert all(line.endswith("\r\n") for line in text.splitlines(keepends=True)), "every editor shows its lines"


def test_says_why_the_former_root_is_back() -> None:
    note = told(GivenUp("b", "its node was not Ready in time"))
    assert note in Report("0.1.0", notes=[note]).text(0.0)
    assert "former root runs" in note
