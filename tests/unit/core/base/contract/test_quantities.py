from __future__ import annotations

import pytest

from pinnace.core.base.contract.quantities import millis, nanos, whole


@pytest.mark.parametrize(
    ("text", "billionths"),
    [
        ("1", 10**9), ("500m", 5 * 10**8), ("1.5", 15 * 10**8), (".5", 5 * 10**8), ("1.", 10**9), ("1n", 1), ("0.1n", 1), ("0", 0),
        ("1Ki", 1024 * 10**9), ("1.5Gi", 3 * 2**29 * 10**9), ("2e3", 2000 * 10**9), ("1E", 10**27), ("1E2", 100 * 10**9),
        ("-250m", -25 * 10**7), ("1e-3", 10**6),
    ],
)  # fmt: skip
def test_known_quantities(text: str, billionths: int) -> None:
    assert nanos(text) == billionths


@pytest.mark.parametrize("text", ["", "m", ".", "1 Gi", "1KB", "0x1", "1e100", "٣", "1" * 65])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a quantity"):
        nanos(text)


def test_units_and_thousandths_round_up() -> None:
    assert (whole("1.2"), whole("100m"), whole(3), whole(None)) == (2, 1, 3, 0)
    assert (millis("1"), millis("0.0001"), millis(0.5), millis(None)) == (1000, 1, 500, 0)
