"""The launchers' torchrun ends with one line instead of a traceback."""

from __future__ import annotations

import pytest
from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from fastvae.cluster import torchrun


def failed(exit_code: int) -> ChildFailedError:
    failure = ProcessFailure(local_rank=1, pid=99_999, exitcode=exit_code, error_file="<N/A>")
    return ChildFailedError(name="fastvae", failures={5: failure})


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (failed(2), "torchrun: rank 5 (process 99999) ended first, with exit code 2"),
        (failed(-9), "torchrun: rank 5 (process 99999) ended first, by SIGKILL"),
        (SignalException("stopped", 15), "torchrun: stopped by SIGTERM"),
    ],
)
def test_a_failure_is_one_line(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end() -> None:
        raise error

    monkeypatch.setattr(run, "main", end)
    assert torchrun.main() == 1
    assert capsys.readouterr().err == line + "\n"
