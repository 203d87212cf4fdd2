"""Figures of a run, and examples of every kind of data as files."""

from typing import TYPE_CHECKING

from fastvae.lazy import lazy_names

if TYPE_CHECKING:
    from fastvae.figures.plots import save_curves, save_latents, save_maps
    from fastvae.figures.registry import Renderer, find_renderer, save_reconstructions, save_rows, save_samples

__all__ = [
    "Renderer",
    "find_renderer",
    "save_curves",
    "save_latents",
    "save_maps",
    "save_reconstructions",
    "save_rows",
    "save_samples",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "plots": ("save_curves", "save_latents", "save_maps"),
        "registry": ("Renderer", "find_renderer", "save_reconstructions", "save_rows", "save_samples"),
    },
)
