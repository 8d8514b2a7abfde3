"""The verdict on the page of pytest-html."""

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from meshgate.report import html
from meshgate.verdict import Outcome

if TYPE_CHECKING:
    from meshgate.plugin.controller import Controller


class Page:
    """The hooks of pytest-html.

    Args:
        controller: has the verdict.
    """

    def __init__(self, controller: "Controller") -> None:
        self._controller = controller

    @pytest.hookimpl(optionalhook=True)
    def pytest_metadata(self, metadata: dict[str, Any]) -> None:
        """Leave out the environment: variables of CI, which may hold credentials, are in it."""
        metadata.clear()

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        """Set the page's title."""
        report.title = "meshgate"

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(self, report: Any, cells: list[str]) -> None:
        """Show a check's id and title in its row."""
        if taken := getattr(report, "meshgate", None):
            cells[1] = html.cell(msgspec.convert(taken, Outcome))

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str], summary: Any, postfix: Any) -> None:
        """Put the verdict on top."""
        prefix.extend(html.summary(self._controller.ruling, self._controller.snapshot))
