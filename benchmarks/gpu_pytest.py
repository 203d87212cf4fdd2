"""A pytest plugin (``-p gpu_pytest``) that prints each failure when it happens, so that a stopped run has named it."""

from __future__ import annotations

import os
import sys

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Under pytest-xdist the controller hears of every worker's tests, and it alone prints."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\nFAILED {report.nodeid} ({report.when})\n{report.longreprtext}", file=sys.stderr, flush=True)
