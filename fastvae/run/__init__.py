"""Start a run from its configuration, and load a finished run from its directory."""

from typing import TYPE_CHECKING

from fastvae.lazy import lazy_names

if TYPE_CHECKING:
    from fastvae.run.chunks import Examples
    from fastvae.run.config import RunConfig, read_config
    from fastvae.run.export import export_part, export_program
    from fastvae.run.loaded import LoadedRun
    from fastvae.run.loading import load
    from fastvae.run.starting import build_run_model, start
    from fastvae.run.user_file import UserFile, load_with_file, start_file

__all__ = [
    "Examples",
    "LoadedRun",
    "RunConfig",
    "UserFile",
    "build_run_model",
    "export_part",
    "export_program",
    "load",
    "load_with_file",
    "read_config",
    "start",
    "start_file",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "chunks": ("Examples",),
        "config": ("RunConfig", "read_config"),
        "export": ("export_part", "export_program"),
        "loaded": ("LoadedRun",),
        "loading": ("load",),
        "starting": ("build_run_model", "start"),
        "user_file": ("UserFile", "load_with_file", "start_file"),
    },
)
