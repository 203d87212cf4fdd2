"""Images and plain numbers."""
