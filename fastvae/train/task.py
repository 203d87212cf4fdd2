"""What is trained, and how a step is taken: a task.

`ELBOTask` trains a VAE, and is what `fastvae.train` does where no other task is given. A task of your own is a subclass
of `Task` with `columns` and `step`. One with a second model, a discriminator say, also names it in `opponents`:

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
                    terms = generator.strategy.module(micro.batch, micro.key)
                    fake = ...                                             # with the gradient of the generator
                    verdicts = discriminator.strategy.module(torch.cat([micro.batch.target, fake.detach()]))
                    real_part, fake_part = verdicts.chunk(2)
                    discriminator_loss = (1 - real_part).relu() + (1 + fake_part).relu()        # [B]
                    discriminator.backward(discriminator_loss)
                    with discriminator.strategy.frozen() as frozen:
                        loss = terms.rate + terms.distortion - frozen(fake)                    # [B]
                        generator.backward(loss)
                sums += torch.stack([loss.sum(), discriminator_loss.sum()]).detach()
            reports = {"generator": generator.step(sums[0]), "discriminator": discriminator.step(sums[1])}
            return StepResult(reports=reports, sums=sums)

    fastvae.train(model, data, config, task=Adversarial(discriminator))

So that a run is the same on one and on many processes, losses are per example and every number that decides something
is a sum over ranks (`Player.global_mean`). Every rank makes the same calls in the same order, with empty micro-batches
too. The other player's model is called through ``strategy.frozen()`` while its parameters do not learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from fastvae.distributed import StepReport
from fastvae.objective import kl_weight_at
from fastvae.records import KeyedBatch
from fastvae.train.config import GENERATOR, TrainConfig
from fastvae.train.player import Player, PlayerSpec
from fastvae.train.step import train_step
from fastvae.train.watch.numerics import diagnose, diagnose_state


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What a step did."""

    reports: Mapping[str, StepReport]
    """By name, of each player that was updated; the others' moving averages stay as they are."""
    sums: Tensor
    """float32 ``[len(columns)]``: each column summed over this rank's examples; the log divides by their number."""


class Task(Protocol):
    """How a step is taken."""

    columns: tuple[str, ...]
    """Names of the numbers that each step sums up; ``metrics.jsonl`` has their means under these names."""
    opponents: tuple[PlayerSpec, ...] = ()
    """The models that are trained besides the one that `fastvae.train` is given."""

    def step(
        self, players: Mapping[str, Player], micro_batches: Sequence[KeyedBatch], numbers: Mapping[str, float | Tensor]
    ) -> StepResult:
        """Take one optimizer step on one global batch.

        A captured step records this once and replays it, so it reads what changes from step to step from ``numbers``.

        Args:
            players: by name; ``generator`` is the model that `fastvae.train` was given.
            micro_batches: this rank's share of the global batch.
            numbers: what ``numbers`` gives for this step, as floats, or as tensors [] in a captured step.
        """
        ...

    def numbers(self, config: TrainConfig, step: int) -> dict[str, float]:
        """What changes from step to step by a schedule, by the name that the metrics give it; step 0 is the first."""
        return {}

    def methods(self, config: TrainConfig) -> tuple[str, ...]:
        """Methods of the model that ``step`` calls on ``strategy.trained``, but for its forward."""
        return ()

    def tensors(self) -> Mapping[str, Tensor]:
        """The task's own state, such as averages of its losses: equal on all ranks, changed in place, and saved."""
        return {}

    def explain(
        self, player: Player, micro_batches: Sequence[KeyedBatch], numbers: Mapping[str, float | Tensor]
    ) -> str:
        """What was not finite in a step of this player that was skipped; called by all ranks together."""
        return diagnose_state(player.strategy, micro_batches)


class ELBOTask(Task):
    """A model that honours ``forward(batch, noise_key) -> VAETerms``, trained on a bound of its evidence.

    Args:
        model: the model that is to be trained.
    """

    def __init__(self, model: nn.Module) -> None:
        self.columns: tuple[str, ...] = ("loss_nats", "elbo_nats", "rate_nats", "distortion_nats")
        unit = getattr(model, "distortion_unit", "nats")
        if unit != "nats":  # a deterministic autoencoder's: no bound
            self.columns = ("squared_error" if unit == "squared error" else "distortion_nats",)

    def step(
        self, players: Mapping[str, Player], micro_batches: Sequence[KeyedBatch], numbers: Mapping[str, float | Tensor]
    ) -> StepResult:
        """One step of ``train_step``."""
        player = players[GENERATOR]
        judge = player.judge or player.guard
        report, sums = train_step(player.strategy, micro_batches, player.config, numbers["kl_weight"], judge)
        return StepResult(reports={GENERATOR: report}, sums=sums[-len(self.columns) :])

    def numbers(self, config: TrainConfig, step: int) -> dict[str, float]:
        """The weight of the rate."""
        return {"kl_weight": kl_weight_at(config.objective, step)}

    def methods(self, config: TrainConfig) -> tuple[str, ...]:
        """Under accumulation, free bits look at the encoder alone."""
        return ("encode",) if config.objective.free_bits is not None and config.accumulation > 1 else ()

    def explain(
        self, player: Player, micro_batches: Sequence[KeyedBatch], numbers: Mapping[str, float | Tensor]
    ) -> str:
        """The module, the terms and the parameters, from a second pass through the same step."""
        return diagnose(player.strategy, micro_batches, player.config, float(numbers["kl_weight"]))
