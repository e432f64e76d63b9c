"""What every command does: read the configuration, open a session, print the result."""

from __future__ import annotations

import json
import logging
import signal
import threading
from typing import TYPE_CHECKING, Any

import click

from cnnspark import errors
from cnnspark.common.log import progress, set_format, set_quiet

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from cnnspark.config import Config, InputPaths
    from cnnspark.execution.tasks import Session
    from cnnspark.stages.sheet_runner import SheetResult, SheetSettings


class Run:
    """What every command needs: the configuration, the paths, a Spark session and a way to print the result."""

    def __init__(self, options: dict[str, Any]):
        import pysam

        from cnnspark.config import differences, load_config

        pysam.set_verbosity(0)  # htslib writes lines to stderr for what is then said in one sentence
        # A program that reads the result may still want progress as JSON.
        set_quiet(options["quiet"] or (options["as_json"] and options["log_format"] == "text"))
        set_format(options["log_format"])
        self.options = options
        self.config: Config = load_config(options.get("config_path"), options.get("settings", ()))
        if options.get("config_path") or options.get("settings"):
            progress(f"configuration: {' '.join(differences(self.config)) or 'the defaults'}")

    def paths(self, **given: Any) -> InputPaths:
        """The configuration's inputs, with the flags over them."""
        import dataclasses

        chosen = {name: value for name, value in given.items() if value not in (None, ())}
        return dataclasses.replace(self.config.inputs, **chosen)

    def session(self, app: str) -> Session:
        """Where the command's tasks run: in Spark, or with --local here."""
        if not self.options["local"]:
            return self.spark(app)
        given = [f"--{name.replace('_', '-')}" for name in ("master", "properties_file") if self.options[name]]
        given += ["--conf-spark"] if self.options["conf_spark"] else []
        if given:
            raise errors.UsageError(f"--local runs without Spark; leave {' and '.join(given)} out, or --local")
        from cnnspark.execution.tasks import LocalSession

        return LocalSession()

    def spark(self, app: str) -> SparkSession:
        """The Spark session of the command's options; SIGINT then ends the command."""
        from cnnspark.execution.session import read_properties, spark_session

        properties: dict[str, str] = {}
        if self.options.get("properties_file"):
            properties.update(read_properties(self.options["properties_file"]))
        for text in self.options["conf_spark"]:
            key, separator, value = text.partition("=")
            if not separator:
                raise errors.UsageError(f"--conf-spark {text} has no value; write key=value")
            properties[key] = value
        session = spark_session(app, self.options["master"], properties)
        # Errors that it logs are raised as well.
        logging.getLogger("py4j").setLevel(logging.CRITICAL)
        if threading.current_thread() is threading.main_thread():
            # Spark's own handler calls the JVM from within another call to it, which fails, and goes on.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return session

    def sheet(self, options: dict[str, Any]) -> tuple[str, SheetSettings] | None:
        """The sheet and how it is processed, taken out of a command's ``options``; None without --sheet."""
        from cnnspark.stages.sheet_runner import SheetSettings

        sheet, at_once, max_failed = (options.pop(name) for name in ("sheet", "at_once", "max_failed"))
        if sheet is None:
            if at_once is not None or max_failed is not None:
                raise errors.UsageError("--at-once and --max-failed are for --sheet; give the sheet")
            return None
        if self.options.get("local"):
            raise errors.UsageError("--local is for one callset; a sheet's are worked on by Spark: leave --local out")
        return sheet, SheetSettings(at_once, max_failed)

    def show_sheet(self, result: SheetResult) -> None:
        """Prints the outcome of a sheet.

        Raises:
            RunError: a callset is not done.
        """
        self.show(result.to_dict(), result.text())
        result.require_all()

    def show(self, result: dict[str, Any], text: str) -> None:
        """Prints the result on stdout: ``text``, or JSON with --json."""
        click.echo(json.dumps(result, sort_keys=True, default=str) if self.options["as_json"] else text)


def with_setting(kept: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The common values with one setting more, for a flag that stands for it; unchanged if the flag was not given."""
    if value is None:
        return kept
    text = str(value).lower() if isinstance(value, bool) else value
    return {**kept, "settings": (*kept["settings"], f"{name}={text}")}


def common_values(options: dict[str, Any]) -> dict[str, Any]:
    """The options that :class:`Run` takes, removed from a command's ``options``; the rest is the command's own."""
    of_spark = ("master", "conf_spark", "properties_file")
    names = ("config_path", "settings", *of_spark, "local", "as_json", "quiet", "log_format", "debug")
    return {name: options.pop(name) for name in names if name in options}
