"""Applications of a trained run, one module or package each, imported on first use."""

from fastvae.lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__, {}, modules=("anomalies", "compression", "probe", "recommendation"))
