"""Pages and pictures for people: the report of a callset, the explanation of an allele, the picture of a tensor.

:func:`write_report` writes the page of a :class:`ReportContents`, :func:`report_run` that of a finished run's folder,
:func:`write_page` that of an explained allele; :func:`show_tensor` draws a tensor. These names are loaded when they are
first used, and with them matplotlib or Jinja2.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnspark.reports.allele.page import write_page
    from cnnspark.reports.allele.tensor_picture import show_tensor
    from cnnspark.reports.callset.contents import ReportContents
    from cnnspark.reports.callset.finished_run import report_run
    from cnnspark.reports.callset.page import write_report

__all__ = ["ReportContents", "report_run", "show_tensor", "write_page", "write_report"]

_MODULES = {
    "ReportContents": "cnnspark.reports.callset.contents",
    "report_run": "cnnspark.reports.callset.finished_run",
    "show_tensor": "cnnspark.reports.allele.tensor_picture",
    "write_page": "cnnspark.reports.allele.page",
    "write_report": "cnnspark.reports.callset.page",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'cnnspark.reports' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
