"""Commands that are too large for ``cli.py``: a dataclass each, whose call does it."""
