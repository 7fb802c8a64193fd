"""Head-wise gradient weighting on a graph: does it recover the edges that tell two classes apart?

A small stand-in for EEG, in which everything is known. Each of 32 nodes emits a signal, and coupled nodes influence
each other. Class edges are coupled in class 1 alone. Decoys are coupled as strongly, in both classes. In class 0 a
random matching, other in each recording, takes the place of the class edges, so that no single node tells the classes
apart.

A learner sees signals and classes, never edges: heads of attention propose graphs, a graph convolution reads them. Its
attention is a map of edges, and is weighted as HGI-SAM weights the heads of a window: by the norm of the gradient.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from hgisam.config.profile import Profile
from hgisam.errors import InputError
from hgisam.maps.hgi_sam import head_weights, weighted_attention
from hgisam.runs.steps import Run

NODES = 32
OWN, COUPLED = 0.2, 0.38  # VAR(1) weights of a node's last value, and of each of its two neighbours'; stable below 1
TIMES, SETTLING = 32, 8  # time points of a recording, and those before it
WINDOW = 4  # time points that the learner reads at once
CHANNELS = 4  # of queries and keys, and of the graph convolution, per head
LEARNING_RATE, BATCH = 0.03, 16  # of Adam; recordings per step
TESTED = 64  # recordings, half of them of class 1
STEPS = 350
TRAINING = "graph"  # in `study.trainings`, where `train.epochs` are steps of the optimizer
METHODS = ("attention", "gradient_weights", "gradient_scores", "hgi_weights", "hgi_scores")
AGAINST = ("decoys", "all other pairs")


class Planted(NamedTuple):
    """Partner of each node [network, node], by class edges and by decoys; no edge is both."""

    edges: Tensor
    decoys: Tensor


class EdgeMaps(NamedTuple):
    """Maps of edges, and what they are made of.

    Attributes:
        maps: Each of `METHODS` → [network, B, node, node].
        attention: [network, B, head, node, node].
        norms: Weights of the heads in "hgi_weights", [network, B, head].
    """

    maps: dict[str, Tensor]
    attention: Tensor
    norms: Tensor


class GraphLearner(nn.Module):
    """Networks side by side, one per seed: attention proposes a graph per head, a Chebyshev convolution reads it.

    Args:
        heads: Of attention.
        generators: One per network, for its initial weights.

    Source: after the multi-head graph structure learner and the Chebyshev network of Neves, Zeng and Xiao, MLCN 2024,
        arXiv 2408.00906; sizes, features and readout are our choice.
    """

    def __init__(self, heads: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()

        def weight(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(scale * torch.stack([torch.randn(shape, generator=g) for g in generators]))

        inwards = WINDOW**-0.5
        self.query, self.key = (weight(heads, WINDOW, CHANNELS, scale=inwards) for _ in range(2))
        self.query_node, self.key_node = (weight(heads, NODES, CHANNELS, scale=0.6) for _ in range(2))
        self.own, self.neighbours = (weight(heads, WINDOW, CHANNELS, scale=inwards) for _ in range(2))
        self.bias = weight(heads, CHANNELS, scale=0.0)
        self.readout = weight(heads, CHANNELS, scale=(heads * CHANNELS) ** -0.5)

    def forward(self, signals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Signals [network, B, node, time] → logit of class 1 [network, B]; scores, attention [.., head, node, node].

        The score of two nodes is the mean over windows of query · key: a learned correlation, and a learned constant.
        """
        windows = signals.unfold(-1, WINDOW, WINDOW)  # [network, B, node, window, time]
        asks, answers = (
            torch.einsum("sbnwt,shtc->sbhnwc", windows, of_signal) + of_node[:, None, :, :, None]
            for of_signal, of_node in ((self.query, self.query_node), (self.key, self.key_node))
        )
        scores = torch.einsum("sbhnwc,sbhmwc->sbhnm", asks, answers) / (windows.shape[3] * CHANNELS**0.5)
        scores = scores.masked_fill(torch.eye(NODES, dtype=torch.bool), -torch.inf)  # no node is its own neighbour
        attention = scores.softmax(dim=-1)
        hidden = chebyshev(windows, attention, self.own, self.neighbours, self.bias).relu()
        logit = torch.einsum("sbhc,shc->sb", hidden.mean(dim=(3, 4)), self.readout)
        return logit, scores, attention


def chebyshev(windows: Tensor, attention: Tensor, own: Tensor, neighbours: Tensor, bias: Tensor) -> Tensor:
    """Chebyshev graph convolution with K = 2, one graph and one pair of filters per head.

    Of a row-stochastic graph A, the rescaled Laplacian is L − I = −A, so that T₀ and T₁ of it are I and −A.

    Args:
        windows: [network, B, node, window, time].
        attention: The graphs, [network, B, head, node, node].
        own, neighbours: Filters of T₀ and T₁, [network, head, time, channel].
        bias: [network, head, channel].

    Returns:
        [network, B, head, node, window, channel].

    Source: Defferrard, Bresson, Vandergheynst, NeurIPS 2016.
    """
    received = -torch.einsum("sbhnm,sbmwt->sbhnwt", attention, windows)
    from_own = torch.einsum("sbnwt,shtc->sbhnwc", windows, own)
    from_others = torch.einsum("sbhnwt,shtc->sbhnwc", received, neighbours)
    return from_own + from_others + bias[:, None, :, None, None]


def matching(generator: torch.Generator, *shape: int) -> Tensor:
    """Partner of each node [*shape, node] in a random matching, in which each node has exactly one."""
    order = torch.rand(*shape, NODES, generator=generator).argsort(dim=-1)
    swapped = order.view(*shape, NODES // 2, 2).flip(-1).flatten(-2)
    return torch.empty_like(order).scatter_(-1, order, swapped)


def plant(generators: Sequence[torch.Generator]) -> Planted:
    """Class edges and decoys for each generator."""
    edges = torch.stack([matching(generator) for generator in generators])
    decoys = []
    for generator, taken in zip(generators, edges, strict=True):
        decoy = matching(generator)
        while (decoy == taken).any():
            decoy = matching(generator)
        decoys.append(decoy)
    return Planted(edges, torch.stack(decoys))


def record(planted: Planted, count: int, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
    """Recordings of a VAR(1) process: signals [network, count, node, time], standardised per node, and classes 0, 1, ….

    Args:
        planted: Its graphs.
        count: Recordings per network, classes in turn.
        generators: One per network.
    """
    classes = (torch.arange(count) % 2).expand(len(generators), count)
    others = torch.stack([matching(generator, count) for generator in generators])
    partner = torch.where(classes[..., None] == 1, planted.edges[:, None], others)
    decoy = planted.decoys[:, None].expand_as(others)
    noise = torch.stack([torch.randn(SETTLING + TIMES, count, NODES, generator=g) for g in generators])
    value, times = noise[:, 0], []
    for moment in noise.unbind(dim=1)[1:]:
        value = OWN * value + COUPLED * (value.gather(-1, partner) + value.gather(-1, decoy)) + moment
        times.append(value)
    signals = torch.stack(times[-TIMES:], dim=-1)
    signals = signals - signals.mean(dim=-1, keepdim=True)
    return signals / signals.std(dim=-1, keepdim=True), classes


def train_learners(
    planted: Planted, heads: int, generators: Sequence[torch.Generator], *, steps: int, permuted: bool
) -> GraphLearner:
    """Train one network per generator with binary cross entropy, on new recordings in each step.

    Args:
        planted: Graphs of the recordings.
        heads: Of attention.
        generators: One per network, for weights and recordings.
        steps: Of Adam, its learning rate falling linearly to 0.
        permuted: Shuffle the classes among the recordings of each step, a control: there is nothing to learn.
    """
    networks = GraphLearner(heads, generators)
    optimizer = torch.optim.Adam(networks.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in tqdm(range(steps), desc=f"{heads} heads", unit="step", leave=False):
        signals, classes = record(planted, BATCH, generators)
        if permuted:
            order = torch.stack([torch.rand(BATCH, generator=generator).argsort() for generator in generators])
            classes = classes.gather(-1, order)
        losses = F.binary_cross_entropy_with_logits(networks(signals)[0], classes.float(), reduction="none")
        optimizer.zero_grad()
        losses.mean(dim=1).sum().backward()  # type: ignore[no-untyped-call]  # networks share no weight
        optimizer.step()
        schedule.step()
    return networks


def edge_maps(networks: GraphLearner, signals: Tensor) -> EdgeMaps:
    """Maps of edges by each of `METHODS`.

    - "attention": the mean over heads, Ā = mean_h A_h.
    - "gradient_…": mean_h (∂s/∂A_h ⊙ A_h)⁺, element by element, the gradient at the attention weights or at the scores.
    - "hgi_…": mean_h ‖∂s/∂A_h‖_F · A_h, as in HGI-SAM, where a graph is a single window.

    Args:
        networks: Trained.
        signals: [network, B, node, time].

    Source: Neves, Zeng and Xiao, arXiv 2408.00906, for the idea; the formula is that of Rasoulian, Salari, Xiao, MELBA
        2023:012. "gradient" after Chefer, Gur, Wolf, ICCV 2021.
    """
    logit, scores, attention = networks(signals)
    gradients = dict(zip(("weights", "scores"), torch.autograd.grad(logit.sum(), [attention, scores]), strict=True))
    attention = attention.detach().double()  # products with a weight are exact then, and keep every order
    maps, norms = {"attention": attention.mean(dim=2)}, {}
    for at, gradient in gradients.items():
        flat = attention.flatten(0, 1)  # networks and recordings, as images of one window each
        weights = head_weights(gradient.flatten(0, 1)).double()
        maps[f"gradient_{at}"] = (gradient * attention).relu().mean(dim=2)
        maps[f"hgi_{at}"] = weighted_attention(flat, weights).view_as(maps["attention"])
        norms[at] = weights.view(attention.shape[:3])
    return EdgeMaps({method: maps[method] for method in METHODS}, attention, norms["weights"])


def edge_auroc(maps: Tensor, planted: Planted) -> dict[str, Tensor]:
    """AUROC of class edges, of each recording [network, B], against each of `AGAINST`.

    Args:
        maps: [network, B, node, node], whose two directions are added up.
        planted: What to find.
    """
    both = maps + maps.transpose(-1, -2)
    upper = torch.ones(NODES, NODES).triu(1).bool()
    edges, decoys = (F.one_hot(partner, NODES).bool() for partner in planted)
    found: dict[str, list[Tensor]] = {name: [] for name in AGAINST}
    for values, edge, decoy in zip(both, edges, decoys, strict=True):
        for name, others in zip(AGAINST, (decoy, ~edge), strict=True):
            lead = values[:, upper & edge][:, :, None] - values[:, upper & others][:, None]
            found[name].append(((lead > 0).double() + 0.5 * (lead == 0)).mean(dim=(1, 2)))
    return {name: torch.stack(parts) for name, parts in found.items()}


def edge_recovery(seeds: Sequence[int], *, heads: Sequence[int] = (1, 4), steps: int = STEPS) -> pd.DataFrame:
    """Recovery of the planted class edges by each map, on new recordings of class 1.

    Args:
        seeds: One network each, whose results do not depend on the other seeds, but for rounding.
        heads: Numbers of heads to compare.
        steps: Of the training.

    Returns:
        One row per seed, heads, labels ("true" or "permuted"), method and against: auroc, the mean over recordings, and
        accuracy, of the classes of new recordings. Methods are `METHODS`, and "best_head" and "worst_head": the heads
        of plain attention with the highest and the lowest AUROC, which nobody without the truth could choose; with
        their share of the weights in "hgi_weights", the mean over recordings.

    Raises:
        InputError: Without seeds, heads or steps.

    Example:
        >>> edge_recovery([1], heads=[1], steps=2)["method"].unique().tolist()[:3]
        ['attention', 'gradient_weights', 'gradient_scores']
    """
    tables = []
    for count in heads or (0,):
        for labels in ("true", "permuted"):
            networks, planted, generators = _trained(seeds, count, steps, permuted=labels == "permuted")
            signals, classes = record(planted, TESTED, generators)
            with torch.no_grad():
                right = (networks(signals)[0] > 0) == (classes > 0)
            common = {"seed": list(seeds), "heads": count, "labels": labels, "accuracy": right.double().mean(dim=1)}
            found = _recovered(edge_maps(networks, signals[:, 1::2]), planted)
            tables += [pd.DataFrame({**common, **columns}) for columns in found]
    columns = ["seed", "heads", "labels", "method", "against", "auroc", "share", "accuracy"]
    return pd.concat(tables, ignore_index=True)[columns]


def edge_example(seed: int, *, heads: int = 4, steps: int = STEPS) -> dict[str, Tensor]:
    """Planted edges and maps of one network, each [node, node]: "class edges", "decoys", and each of `METHODS`.

    Maps are means over new recordings of class 1.
    """
    networks, planted, generators = _trained([seed], heads, steps, permuted=False)
    maps = edge_maps(networks, record(planted, TESTED, generators)[0][:, 1::2]).maps
    edges, decoys = (F.one_hot(partner[0], NODES).double() for partner in planted)
    return {"class edges": edges, "decoys": decoys} | {method: values[0].mean(dim=0) for method, values in maps.items()}


def graph_step(profile: Profile, runs_dir: str | Path) -> Path:
    """The study of the graph: recovery of edges for each seed, and the maps of the first one.

    Args:
        profile: Of the run; seeds and steps are those of "graph" in its `study.trainings`.
        runs_dir: Folder of all runs.

    Returns:
        `runs/<profile>/other_domains/graph`: `recovery.parquet`, from `edge_recovery`, and `example.npz`
        with the names and maps of `edge_example`.
    """
    variant = profile.variant(TRAINING, ["train.checkpoint=null"])
    seeds, steps = variant.study.seeds, variant.train.epochs

    def work(folder: Path) -> None:
        edge_recovery(seeds, steps=steps).to_parquet(folder / "recovery.parquet", index=False)
        example = edge_example(seeds[0], steps=steps)
        np.savez_compressed(folder / "example.npz", names=list(example), maps=torch.stack([*example.values()]).numpy())

    code = ["hgisam_book.other_domains.graph"]
    return Run(variant, runs_dir).make("other_domains/graph", work, code=code, sections=("study", "train"), inputs={})


def _trained(
    seeds: Sequence[int], heads: int, steps: int, *, permuted: bool
) -> tuple[GraphLearner, Planted, list[torch.Generator]]:
    """Networks of some seeds, what was planted, and the generators for new recordings."""
    for name, given in (("seeds", len(seeds)), ("heads", heads), ("steps", steps)):
        if given < 1:
            raise InputError(f"graph study, {name}", given, "1 or more", "Give at least one.")
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    planted = plant(generators)
    return train_learners(planted, heads, generators, steps=steps, permuted=permuted), planted, generators


def _recovered(found: EdgeMaps, planted: Planted) -> list[dict[str, Any]]:
    """Columns method, against, auroc and share, the latter two [network], for each map and for single heads."""
    of_maps = {method: edge_auroc(values, planted) for method, values in found.maps.items()}
    of_heads = [edge_auroc(head, planted) for head in found.attention.unbind(dim=2)]
    shares = (found.norms / found.norms.sum(dim=2, keepdim=True)).mean(dim=1)  # [network, head]
    records: list[dict[str, Any]] = []
    for against in AGAINST:
        for method, auroc in of_maps.items():
            records.append({"method": method, "against": against, "auroc": auroc[against].mean(dim=1), "share": np.nan})
        each = torch.stack([auroc[against].mean(dim=1) for auroc in of_heads], dim=1)  # [network, head]
        for method, (value, head) in {"best_head": each.max(dim=1), "worst_head": each.min(dim=1)}.items():
            share = shares.gather(1, head[:, None])[:, 0]
            records.append({"method": method, "against": against, "auroc": value, "share": share})
    return records
