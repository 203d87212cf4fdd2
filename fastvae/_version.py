"""The version of fastvae: defined here only, also for pyproject.toml, so that no installed metadata are needed."""

__version__ = "0.1.0"
