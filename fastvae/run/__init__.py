"""A whole run from its configuration, and a finished run from its directory."""

from fastvae.run.config import RunConfig, read_config
from fastvae.run.loaded import Examples, LoadedRun
from fastvae.run.loading import load
from fastvae.run.start import build_run_model, model_inputs, start

__all__ = ["Examples", "LoadedRun", "RunConfig", "build_run_model", "load", "model_inputs", "read_config", "start"]
