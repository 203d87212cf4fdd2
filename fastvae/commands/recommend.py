"""`recommend`: items for a user, items similar to an item, items for a file of users, and an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastvae import applications
from fastvae.applications.config import MAX_EASE_GIB
from fastvae.commands.options import Device, OnRun, RunDirectory, load_run, output_file

if TYPE_CHECKING:
    from fastvae.applications.recommendation import Suggestion
    from fastvae.data.interactions.catalogue import Catalogue


@dataclass(frozen=True)
class Recommend(OnRun):
    """Recommend items for a user who has --items, items similar to --similar, or items for every user of --data."""

    run: RunDirectory
    """The run directory."""
    items: str | None = None
    """Titles or IDs, separated by semicolons, such as "Toy Story;Fargo;id=50"."""
    similar: str | None = None
    """Title or ID of an item whose nearest items are listed."""
    data: Path | None = None
    """A CSV, TSV, .inter or .npz file of users and items; the recommendations are written to --out."""
    out: Path | None = None
    """CSV file of the recommendations for --data; None is recommendations.csv in the run directory."""
    report: bool = False
    """Report recall and NDCG on the test users, compared with popularity and EASE. A fifth of each user's items is
    held out: the newest if --data.interactions.time named a column at training, otherwise random ones."""
    max_gib: float = MAX_EASE_GIB
    """Largest amount of memory for EASE in the report, in GiB; EASE is omitted if it needs more."""
    top: int = 10
    """Number of items."""
    device: Device = "auto"
    """Device; auto is a GPU if one is available."""

    def __call__(self) -> int:
        asked = [self.items is not None, self.similar is not None, self.data is not None, self.report]
        if sum(asked) != 1 or self.top < 1:
            raise ValueError("recommend: give one of --items, --similar, --data and --report, and --top of at least 1")
        if not self.max_gib > 0:
            raise ValueError(f"--max-gib must be a positive number, got {self.max_gib}")
        given = None if self.out is None else output_file(self.out, (".csv",))
        loaded = load_run(self.run, self.device, self.module)
        recommendation = applications.recommendation
        recommender = recommendation.Recommender.of_run(loaded)
        if self.items is not None:
            names = [name for name in self.items.split(";") if name.strip()]
            suggestions = recommender.recommend(names, self.top)
            print(f"for a user who has {understood(recommender.catalogue, names)}")
            print(suggestion_table(suggestions, "probability"))
        elif self.similar is not None:
            suggestions = recommender.similar(self.similar, self.top)
            print(f"similar to {understood(recommender.catalogue, [self.similar])}")
            print(suggestion_table(suggestions, "cosine"))
        elif self.data is not None:
            out = given or loaded.directory / "recommendations.csv"
            print(f"{out}  {recommendation.write_recommendations(recommender, self.data, out, self.top)} users")
        else:
            rankings = recommendation.compare(recommender, loaded.data, name=loaded.config.recipe, max_gib=self.max_gib)
            print(recommendation.comparison_table(rankings))
            print(recommendation.held_out_line(loaded.data, loaded.config.data))
            if reason := recommendation.why_no_ease(loaded.data, self.max_gib):
                print(f"{reason} (--max-gib)")
        return 0


def understood(catalogue: Catalogue, names: Sequence[str]) -> str:
    """Return the titles of the requested items, and their IDs if titles are ambiguous."""
    return "; ".join(catalogue.label(catalogue.find(name)) for name in names)


def suggestion_table(suggestions: Sequence[Suggestion], unit: str) -> str:
    """Return the items with their ranks and scores, one per line."""
    lines = [f"rank  {unit:>11}  title"]
    lines += [f"{rank:4}  {s.score:11.4g}  {s.title}" for rank, s in enumerate(suggestions, start=1)]
    return "\n".join(lines)
