"""The pages' templates (``reports/templates``), filled in by Jinja2, which is imported when a page is made."""

from __future__ import annotations

from importlib import resources
from typing import Any


def render(template: str, **values: Any) -> str:
    """The page that a template makes of some values.

    Texts are escaped, except those that the template marks as safe: the drawings, which escape what they show.

    Args:
        template: The file's name, ``report.html``.
        values: By the names that the template uses; a missing one is an error.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    text = resources.files("cnnspark.reports").joinpath(f"templates/{template}").read_text("utf-8")
    return environment.from_string(text).render(**values)
