"""A short seeded run of each harness; `make fuzz` makes long ones."""

from __future__ import annotations

import pytest
from fuzz import fuzz_cri, fuzz_envelope, fuzz_frame, fuzz_layer, fuzz_twin
from fuzz.mutations import Case, hunt


@pytest.mark.parametrize(
    "case", [fuzz_cri.case, fuzz_envelope.case, fuzz_frame.case, fuzz_twin.case], ids=["cri", "envelope", "frame", "twin"]
)
def test_a_short_hunt_finds_nothing(case: Case) -> None:
    hunt(case, runs=1500, seed=20261125)


@pytest.mark.root
def test_a_short_hunt_in_layers_finds_nothing() -> None:
    hunt(fuzz_layer.case, runs=120, seed=20261125)  # each writes files
