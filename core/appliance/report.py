"""pinnace-report.txt: what the board made of pinnace.yaml, for a person who has the card in another computer."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

from pinnace.core.appliance.slots import GivenUp
from pinnace.core.appliance.wishes import Fault


@dataclass(slots=True)
class Report:
    """What is known so far. `cloud` is one sentence about the joining, "" before it is tried."""

    version: str
    name: str = ""
    faults: Sequence[Fault] = ()
    was_node: bool = False
    """The board was a node before, and goes on as it was whatever is wrong here."""
    address: str = ""
    cloud: str = ""
    is_joined: bool = False
    notes: list[str] = field(default_factory=list)

    def text(self, wall: float) -> str:
        when = datetime.datetime.fromtimestamp(wall, datetime.UTC)
        lines = [f"Pinnace {self.version}: what became of pinnace.yaml", f"({when:%Y-%m-%d %H:%M} UTC by this board's clock)", ""]
        if self.faults:
            count = len(self.faults)
            lines.append(f"pinnace.yaml   {count} thing{'s' * (count != 1)} to mend:")
            lines += [f"  {each}" for each in self.faults]
            lines.append("")
            lines.append("Mend that in pinnace.yaml, put the card back and switch the board on again; nothing needs to be flashed.")
            if self.was_node:
                lines.append("Until then this board goes on as the node that it was.")
        else:
            lines.append("pinnace.yaml   all right")
        for title, value in (("node", self.name), ("network", self.address), ("cloud", self.cloud)):
            if value:
                lines.append(f"{title:<14} {value}")
        if self.is_joined:
            lines += ["", f"`kubectl get nodes` shows {self.name} as soon as it is Ready."]
        lines += [line for note in self.notes for line in ("", note)]
        return "\r\n".join([*lines, ""])


def told(given_up: GivenUp) -> str:
    return (
        f"The upgrade in root {given_up.slot} was given up: {given_up.reason}. The former root runs; `pinnace upgrade` may be tried again."
    )
