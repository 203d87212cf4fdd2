"""Recommendation: top items for users, the ranking metrics, and the baselines popularity and EASE."""

from fastvae.applications.recommendation.recommend import (
    Recommender,
    Suggestion,
    compare,
    comparison_table,
    held_out_line,
    item_vectors,
    why_no_ease,
    write_recommendations,
)

__all__ = [
    "Recommender",
    "Suggestion",
    "compare",
    "comparison_table",
    "held_out_line",
    "item_vectors",
    "why_no_ease",
    "write_recommendations",
]
