"""The commands: most are a dataclass of options whose ``__call__`` runs the command."""
