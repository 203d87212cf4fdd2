"""How images are read, as a configuration."""

from __future__ import annotations

from dataclasses import dataclass

from fastvae.settings import Settings


@dataclass(frozen=True, kw_only=True)
class ImagesConfig(Settings):
    """How image files become pixels."""

    background: str = "white"
    """The colour behind transparent pixels: a name such as black, or #rrggbb."""

    def __post_init__(self) -> None:
        if self.background != "white":
            from PIL import ImageColor

            try:
                ImageColor.getrgb(self.background)
            except ValueError:
                raise ValueError(
                    f"ImagesConfig: background must be a colour such as white or #ff8000, got {self.background!r}"
                ) from None
