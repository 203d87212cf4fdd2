"""A plugin for sensor signals: a kind of data, a family of models, a likelihood and a task."""

from fastvae.data import register_kind
from fastvae.models import register_family, register_likelihood
from fastvae.train import register_task

from .family import FAMILY, SmoothConfig
from .kind import KIND, SignalsConfig
from .likelihood import Laplace
from .task import CriticConfig, build_critic

register_kind(KIND, config=SignalsConfig)
register_family(FAMILY, config=SmoothConfig)
register_likelihood("laplace", Laplace, families=("smooth", "vae"))
register_task("critic", build_critic, families=("smooth",), config=CriticConfig)
