"""`recommend`: items for a person, items like an item, a file of people, and how good the recommender is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastvae import applications
from fastvae.applications.config import MAX_EASE_GIB
from fastvae.commands.options import Device, OnRun, RunDirectory, load_run

if TYPE_CHECKING:
    from fastvae.applications.recommendation import Suggestion
    from fastvae.data.interactions.catalogue import Catalogue


@dataclass(frozen=True)
class Recommend(OnRun):
    """Items for somebody who has --items, items like --similar, or items for every user of --data."""

    run: RunDirectory
    """The run directory."""
    items: str | None = None
    """Titles or ids, parted by semicolons, such as "Toy Story;Fargo;id=50"."""
    similar: str | None = None
    """A title or id: which items are nearest to it."""
    data: Path | None = None
    """A CSV, TSV, .inter or .npz file of users and items; the answers go to --out."""
    out: Path | None = None
    """The CSV file of --data's answers; None is recommendations.csv in the run directory."""
    report: bool = False
    """Recall and NDCG on the test users, beside popularity and EASE."""
    max_gib: float = MAX_EASE_GIB
    """The most memory, in GiB, that the report's EASE may take; it is left out where it needs more."""
    top: int = 10
    """How many items."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU where there is one."""

    def __call__(self) -> int:
        asked = [self.items is not None, self.similar is not None, self.data is not None, self.report]
        if sum(asked) != 1 or self.top < 1:
            raise ValueError("recommend: give one of --items, --similar, --data and --report, and --top of at least 1")
        if not self.max_gib > 0:
            raise ValueError(f"--max-gib: must be a positive number, got {self.max_gib}")
        loaded = load_run(self.run, self.device, self.module)
        recommendation = applications.recommendation
        recommender = recommendation.Recommender.of_run(loaded)
        if self.items is not None:
            names = [name for name in self.items.split(";") if name.strip()]
            suggestions = recommender.recommend(names, self.top)
            print(f"for somebody who has {understood(recommender.catalogue, names)}")
            print(suggestion_table(suggestions, "probability"))
        elif self.similar is not None:
            suggestions = recommender.similar(self.similar, self.top)
            print(f"like {understood(recommender.catalogue, [self.similar])}")
            print(suggestion_table(suggestions, "cosine"))
        elif self.data is not None:
            out = self.out or loaded.directory / "recommendations.csv"
            out.parent.mkdir(parents=True, exist_ok=True)
            print(f"{out}  {recommendation.write_recommendations(recommender, self.data, out, self.top)} users")
        else:
            rankings = recommendation.compare(recommender, loaded.data, name=loaded.config.recipe, max_gib=self.max_gib)
            print(recommendation.comparison_table(rankings))
            if reason := recommendation.why_no_ease(loaded.data, self.max_gib):
                print(f"{reason} (--max-gib)")
        return 0


def understood(catalogue: Catalogue, names: Sequence[str]) -> str:
    """The titles of the items that somebody named, and their ids where titles are not enough."""
    return "; ".join(catalogue.label(catalogue.find(name)) for name in names)


def suggestion_table(suggestions: Sequence[Suggestion], unit: str) -> str:
    """The items with their ranks and scores, one a line."""
    lines = [f"rank  {unit:>11}  title"]
    lines += [f"{rank:4}  {s.score:11.4g}  {s.title}" for rank, s in enumerate(suggestions, start=1)]
    return "\n".join(lines)
