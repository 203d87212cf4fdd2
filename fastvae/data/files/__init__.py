"""How bytes are found and read: places, downloads, folders, and file formats of every kind of data."""
