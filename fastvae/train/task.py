"""A task defines what is trained, and what a step does.

`ELBOTask` trains a VAE; `fastvae.train` uses it by default. A user's task is a subclass of `Task` with `columns` and
`step`. A task with a second model, such as a discriminator, also lists it in `opponents`:

    class Adversarial(Task):
        columns = ("loss_nats", "discriminator_loss")

        def __init__(self, discriminator: nn.Module) -> None:
            self.opponents = (PlayerSpec(name="discriminator", model=discriminator),)

        def step(self, players, micro_batches, numbers):
            generator, discriminator = players["generator"], players["discriminator"]
            sums = torch.zeros(2, device=generator.strategy.world.device)
            for index, micro in enumerate(micro_batches):
                last = index == len(micro_batches) - 1
                with generator.strategy.accumulate(last), discriminator.strategy.accumulate(last):
                    terms = generator.strategy.module(micro.batch, micro.key, Draw(reconstruction=True))
                    fake = terms.reconstruction                            # with the gradient of the generator
                    verdicts = discriminator.strategy.module(torch.cat([micro.batch.target, fake.detach()]))
                    real_part, fake_part = verdicts.chunk(2)                                   # [B] each
                    discriminator_loss = (1 - real_part).relu() + (1 + fake_part).relu()        # [B]
                    discriminator.backward(discriminator_loss)
                    with discriminator.strategy.frozen() as frozen:
                        loss = terms.rate + terms.distortion - frozen(fake)                    # [B]
                        generator.backward(loss)
                sums += torch.stack([loss.sum(), discriminator_loss.sum()]).detach()
            reports = {"generator": generator.step(sums[0]), "discriminator": discriminator.step(sums[1])}
            return StepResult(reports=reports, sums=sums)

    fastvae.train(model, data, config, task=Adversarial(discriminator))

So that a run does not depend on the number of processes, losses are per example, and every number that a decision
depends on is a sum over ranks (`Player.global_mean`). Every rank makes the same calls in the same order, also with
empty micro-batches. The other player's model is called through ``strategy.frozen()`` while its parameters are not
trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from fastvae.distributed import StepReport
from fastvae.generative import AnyModel
from fastvae.objective import kl_weight_at
from fastvae.records import KeyedBatch
from fastvae.train.config import GENERATOR, TrainConfig
from fastvae.train.player import Player, PlayerSpec
from fastvae.train.step import train_step
from fastvae.train.watch.numerics import diagnose, diagnose_state


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """Result of a step."""

    reports: Mapping[str, StepReport]
    """Reports by name of the players that were updated; the moving averages of the others do not change."""
    sums: Tensor
    """float32: the sum of each column over this rank's examples; the log divides by their number."""


@runtime_checkable
class Task(Protocol):
    """What a step does."""

    columns: tuple[str, ...]
    """Names of the sums that each step returns; ``metrics.jsonl`` contains their means under these names. The steps may
    omit the last columns, always the same ones: `ELBOTask` has a penalty only if its model has one."""
    opponents: tuple[PlayerSpec, ...] = ()
    """Models that are trained in addition to the argument of `fastvae.train`."""

    def step(
        self, players: Mapping[str, Player], micro_batches: Sequence[KeyedBatch], numbers: Mapping[str, float | Tensor]
    ) -> StepResult:
        """Run one optimizer step on one global batch.

        A captured step records this once and replays it, so values that change with the step come from ``numbers``.

        Args:
            players: players by name; ``generator`` is the model passed to `fastvae.train`.
            micro_batches: this rank's share of the global batch.
            numbers: result of the method ``numbers``: floats, or tensors [] in a captured step.
        """
        ...

    def numbers(self, config: TrainConfig, step: int) -> dict[str, float]:
        """Return the values of schedules at a step (from 0), by their names in the metrics."""
        return {}

    def methods(self, config: TrainConfig) -> tuple[str, ...]:
        """Return the methods besides forward that ``step`` calls on ``strategy.trained``."""
        return ()

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the task's state, such as running averages: equal on all ranks, updated in place, and saved."""
        return {}

    def explain(
        self, player: Player, micro_batches: Sequence[KeyedBatch], numbers: Mapping[str, float | Tensor]
    ) -> str:
        """Explain what was not finite in a skipped step of this player; called by all ranks together."""
        return diagnose_state(player.strategy, micro_batches)


class ELBOTask(Task):
    """Train a model with ``forward(batch, noise_key) -> VAETerms`` on a bound of its evidence.

    Args:
        model: the model that is to be trained.

    Raises:
        ValueError: the model's attributes on distortion and ELBO contradict each other.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = AnyModel(model)
        distortion = ("loss_nats", "elbo_nats", "rate_nats") if self._model.estimates_elbo else ()
        self.columns: tuple[str, ...] = (*distortion, self._model.distortion_name, "penalty")

    def step(
        self, players: Mapping[str, Player], micro_batches: Sequence[KeyedBatch], numbers: Mapping[str, float | Tensor]
    ) -> StepResult:
        """Run ``train_step``."""
        player = players[GENERATOR]
        judge = player.judge or player.guard
        kl_weight = numbers.get("kl_weight", 1.0)
        report, sums = train_step(player.strategy, micro_batches, player.config, kl_weight, judge)
        return StepResult(reports={GENERATOR: report}, sums=sums if self._model.estimates_elbo else sums[3:])

    def numbers(self, config: TrainConfig, step: int) -> dict[str, float]:
        """Return the weight of the rate; nothing for a model without one."""
        return {"kl_weight": kl_weight_at(config.objective, step)} if self._model.has_rate else {}

    def methods(self, config: TrainConfig) -> tuple[str, ...]:
        """Return the methods that free bits call before the first backward under accumulation."""
        if config.objective.free_bits is None or config.accumulation == 1:
            return ()
        return tuple(name for name in ("encode", "kl_per_dimension") if self._model.can(name))

    def explain(
        self, player: Player, micro_batches: Sequence[KeyedBatch], numbers: Mapping[str, float | Tensor]
    ) -> str:
        """Name the module, the terms and the parameters, by running the same step again."""
        return diagnose(player.strategy, micro_batches, player.config, float(numbers.get("kl_weight", 1.0)))
