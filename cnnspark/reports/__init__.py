"""Pages and pictures for people: the report of a callset, the explanation of an allele, the picture of a tensor.

:func:`write_report` writes the page of a :class:`ReportContents`, :func:`report_run` that of a finished run's folder,
:func:`write_page` that of an explained allele; :func:`show_tensor` draws a tensor. These names are loaded when they are
first used, and with them matplotlib or Jinja2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnspark.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from cnnspark.reports.allele.page import write_page
    from cnnspark.reports.allele.tensor_picture import show_tensor
    from cnnspark.reports.callset.contents import ReportContents
    from cnnspark.reports.callset.finished_run import report_run
    from cnnspark.reports.callset.page import write_report

__all__ = ["ReportContents", "report_run", "show_tensor", "write_page", "write_report"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ReportContents": ".callset.contents",
        "report_run": ".callset.finished_run",
        "show_tensor": ".allele.tensor_picture",
        "write_page": ".allele.page",
        "write_report": ".callset.page",
    },
)
