"""What people look at: pictures of a run, and examples of every kind of data as files."""

from fastvae.figures.images import save_reconstructions, save_rows, save_samples
from fastvae.figures.plots import save_curves, save_latents, save_maps
from fastvae.figures.registry import RENDERERS, Renderer, find_renderer

__all__ = [
    "RENDERERS",
    "Renderer",
    "find_renderer",
    "save_curves",
    "save_latents",
    "save_maps",
    "save_reconstructions",
    "save_rows",
    "save_samples",
]
