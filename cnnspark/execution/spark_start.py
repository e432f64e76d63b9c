"""Why Spark did not start, in one sentence: Java's own reason, and what to set."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cnnspark.errors import UsageError

# What Java or Spark's scripts say, and what to do about it; the first that is found counts.
_REMEDIES = (
    (r"HADOOP_CONF_DIR", "set HADOOP_CONF_DIR to the folder of the cluster's configuration"),
    (r"[Mm]aster|threads", "give --master as local[2], yarn, spark://HOST:PORT or k8s://..."),
    (r"heap size|memory", "give spark.driver.memory as 4g"),
    (r"application resource|PYSPARK_SUBMIT_ARGS|Unrecognized option", "unset PYSPARK_SUBMIT_ARGS"),
    (r"invalid null input: name|getpwuid", "give the user an entry in /etc/passwd, or run as another"),
    (r"[Ee]vent|history|file:.* does not exist", "make the folder of spark.eventLog.dir, or leave the property out"),
    (r"bin/spark-submit|SPARK_HOME", "unset SPARK_HOME, or set it to a Spark 3.5"),
    (r"java: No such|java: not found|bin/java", "set JAVA_HOME to a Java 17, or unset it"),
)


@contextmanager
def java_reasons() -> Iterator[None]:
    """Turns what keeps Spark from starting into one sentence.

    What Java and Spark's scripts write on stderr meanwhile comes out afterwards, if Spark starts.

    Raises:
        UsageError: instead of any exception.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
        said.seek(0)
        text = said.read()
        if failure is None:
            with suppress(OSError):
                os.write(2, text)
            return
    raise UsageError(start_sentence(str(failure), text.decode(errors="replace"))) from failure


def start_sentence(error: str, stderr: str) -> str:
    """The sentence for a Spark that did not start.

    Args:
        error: the text of Python's exception.
        stderr: what Java and Spark's scripts wrote.
    """
    known = (line.strip() for line in stderr.splitlines() if any(re.search(p, line) for p, _ in _REMEDIES))
    line = next(known, "")
    reason = _reason(error) or _reason(line) or line or _reason(stderr) or _last_line(stderr) or _last_line(error)
    reason = reason or "it does not say why"
    remedy = next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, reason)), None)
    return f"Spark does not start: {reason[:300]}; {remedy or 'check JAVA_HOME, SPARK_HOME and the Spark properties'}"


def _reason(text: str) -> str:
    """The message of the last Java exception or error, without its class."""
    found = re.findall(r"(?:^|: |\s)[\w.$]*(?:Exception|Error): (?!An error occurred)([^\n]+)", text)
    # The script's own lines begin like those of an exception.
    return str(found[-1]).strip() if found and "JAVA_GATEWAY_EXITED" not in found[-1] else ""


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("at ")]
    return lines[-1] if lines and "JAVA_GATEWAY_EXITED" not in lines[-1] else ""
