"""The command before it looks at anything."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from pinnace.core.base import cli
from pinnace.core.base.errors import RefusedError


@pytest.mark.root
@pytest.mark.parametrize("closed", ["edgecore.yaml", "."])
def test_a_configuration_for_root_is_not_taken_for_a_wrong_one(closed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, which nobody else may enter
        config = Path(folder, "edgecore.yaml")
        config.write_text("modules: {}\n")
        Path(folder).chmod(0o755)
        words = ["doctor", "--offline", "--config", str(config)]
        cli.main(words)  # nobody may not import anything below
        assert "configuration" not in capsys.readouterr().out
        Path(folder, closed).chmod(0o700 if closed == "." else 0o600)
        os.seteuid(65534)
        try:
            assert cli.main(words) == RefusedError.exit_code
        finally:
            os.seteuid(0)
    said = capsys.readouterr()
    assert "use sudo" in said.err
    assert said.out == ""
