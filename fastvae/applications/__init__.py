"""Applications: what people do with a finished run, one package or file for each, imported when it is used."""

from fastvae.lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__, {}, modules=("anomalies", "compression", "probe", "recommendation"))
