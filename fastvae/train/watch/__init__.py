"""What watches over training: bad numbers, collapse, and the restart of a decoder."""
