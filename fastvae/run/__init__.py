"""A whole run from its configuration, and a finished run from its directory."""

from typing import TYPE_CHECKING

from fastvae.lazy import lazy_names

if TYPE_CHECKING:
    from fastvae.run.config import RunConfig, read_config
    from fastvae.run.loaded import Examples, LoadedRun
    from fastvae.run.loading import load
    from fastvae.run.starting import build_run_model, start

__all__ = [
    "Examples",
    "LoadedRun",
    "RunConfig",
    "build_run_model",
    "load",
    "read_config",
    "start",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "config": ("RunConfig", "read_config"),
        "loaded": ("Examples", "LoadedRun"),
        "loading": ("load",),
        "starting": ("build_run_model", "start"),
    },
)
