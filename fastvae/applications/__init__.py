"""Applications: what people do with a finished run, one package or file for each."""
