"""Finding and reading files: paths, downloads, folders, and file formats of all kinds of data."""
