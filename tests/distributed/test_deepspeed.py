"""The configuration of DeepSpeed: the run's options and the user's JSON; errors name conflicts and mistakes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from fastvae.distributed import DeepSpeedConfig, World, build_strategy
from fastvae.distributed.deepspeed_settings import engine_settings
from tests import launching


def settings(tmp_path: Path, given: object, *, clip: float | None = None, **config: Any) -> dict[str, Any]:
    path = tmp_path / "mine.json"
    path.write_text(given if isinstance(given, str) else json.dumps(given))
    return engine_settings(DeepSpeedConfig(file=path, **config), precision="fp32", accumulation=4, clip=clip)


def test_clipping_and_accumulation_follow_the_options() -> None:
    """DeepSpeed clips at 1.0 by default."""
    told = engine_settings(DeepSpeedConfig(), precision="bf16", accumulation=4, clip=None)
    assert (told["gradient_clipping"], told["gradient_accumulation_steps"]) == (0.0, 4)
    assert told["zero_optimization"] == {"stage": 2}
    assert told["torch_autocast"]["enabled"]
    assert engine_settings(DeepSpeedConfig(), precision="fp32", accumulation=1, clip=0.5)["gradient_clipping"] == 0.5


def test_a_file_adds_settings_without_an_option(tmp_path: Path) -> None:
    zero = {"stage": 3, "overlap_comm": False, "stage3_param_persistence_threshold": 0}
    given = {"zero_optimization": zero, "gradient_clipping": "auto", "gradient_accumulation_steps": 4}
    told = settings(tmp_path, given, clip=2.0)
    assert told["zero_optimization"] == zero
    assert told["gradient_clipping"] == 2.0


def test_every_conflict_is_named_with_both_values(tmp_path: Path) -> None:
    given = {
        "gradient_clipping": 1.0,
        "gradient_accumulation_steps": 8,
        "zero_optimization": {"stage": 1},
        "optimizer": {"type": "Adam"},
        "bf16": {"enabled": True},
    }
    with pytest.raises(ValueError, match=r"mine\.json contradicts this run's options") as caught:
        settings(tmp_path, given, clip=None, stage=2)
    for conflict in (
        "gradient_clipping is 1.0 in the file and 0.0 in the run",
        "gradient_accumulation_steps is 8 in the file and 4 in the run",
        "zero_optimization.stage is 1 in the file and 2 in the run",
        "optimizer is set by options of --train",
        "bf16 is set by options of --train",
        '(or write "auto")',
    ):
        assert conflict in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"zero_optimization": {"stage": 2},}', r"mine\.json is not JSON: .* line 1"),
        ("", r"mine\.json is not JSON"),
        ("[1, 2]", r"mine\.json must contain a JSON object, got list"),
        ('{"zero_optimization": 2}', r"zero_optimization must be an object, got 2"),
        ('{"zero_optimization": {"stage": 7}}', r"stage must be 0, 1, 2 or 3, got 7"),
    ],
)
def test_an_invalid_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.json: the file does not exist"):
        engine_settings(DeepSpeedConfig(file=tmp_path / "nowhere.json"), precision="fp32", accumulation=1, clip=None)


def test_one_process_requires_a_launcher() -> None:
    with pytest.raises(ValueError, match="strategy deepspeed requires a launcher"):
        build_strategy("deepspeed", World())


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is not None, reason="deepspeed is installed here")
def test_the_error_without_deepspeed_shows_how_to_install_it(tmp_path: Path) -> None:
    words = ("train", "digits", f"--run-dir={tmp_path / 'run'}", "--train.strategy=deepspeed")
    result = launching.fastvae(*words, num_processes=2, check=False)
    assert "deepspeed is not installed: pip install fastvae[deepspeed]" in result.stderr


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs pip install fastvae[deepspeed]")
def test_the_error_without_a_compiler_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    words = ("train", "digits", f"--run-dir={tmp_path / 'run'}", "--train.strategy=deepspeed", "--train.device=cpu")
    result = launching.fastvae(*words, num_processes=2, check=False)
    assert result.returncode != 0
    (line, *_) = [line for line in result.stderr.splitlines() if line.startswith("fastvae: rank") and "CXX" in line]
    assert "no C++ compiler was found" in line
