"""Renderers by kind of data. They are declared by the kinds, see `fastvae.data.kind`."""

from fastvae.data import Renderer, find_renderer
from fastvae.data.pixels.pictures import save_reconstructions, save_rows, save_samples

__all__ = ["Renderer", "find_renderer", "save_reconstructions", "save_rows", "save_samples"]
