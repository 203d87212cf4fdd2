"""VAEs of sentences: recurrent networks and transformers."""
