"""The version of fastvae: the one place that holds it, also for pyproject.toml. It needs no installed metadata."""

__version__ = "0.1.0"
