r"""FID, sFID and KID: how far a set of generated images is from a set of real ones.

.. math:: d^2 = \lVert \mu_a - \mu_b \rVert^2
          + \operatorname{tr}(\Sigma_a + \Sigma_b - 2 (\Sigma_a \Sigma_b)^{1/2})

is the Fréchet distance of two Gaussians (Dowson & Landau, 1982). FID takes it between pooled
features (Heusel et al., 2017), sFID between spatial ones (Nash et al., Generating images with
sparse representations, 2021), both of :mod:`diffcf.evaluation.metrics.inception`. KID (Bińkowski et
al., Demystifying MMD GANs, 2018) is an unbiased squared distance between the pooled features
themselves, so it can also be trusted for few images, where FID comes out too large.

torchmetrics' ``FrechetInceptionDistance`` gives the same FID from the same network. Here one pass
serves all three distances, real statistics are kept on disk
(:func:`diffcf.evaluation.perceptual.real_statistics`), and no image counts twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torchmetrics.image.kid import poly_mmd

from diffcf.evaluation.metrics.image_metric import RowMetric
from diffcf.evaluation.metrics.inception import FeatureNetwork
from diffcf.io import DataError

SUBSETS, SUBSET_SIZE = 100, 1000  # of KID, as in torchmetrics


@dataclass
class GaussianStatistics:
    """All that a Gaussian's estimate needs, added up image by image in float64 on the CPU.

    Attributes:
        count: of images.
        total: sum of their features, ``[D]``.
        outer: sum of the features' outer products, ``[D, D]``.

    >>> statistics = GaussianStatistics.of(torch.tensor([[0.0, 1.0], [2.0, 1.0]]))
    >>> statistics.mean.tolist(), statistics.covariance.tolist()
    ([1.0, 1.0], [[2.0, 0.0], [0.0, 0.0]])
    """

    count: int
    total: Tensor
    outer: Tensor

    @classmethod
    def of(cls, features: Tensor) -> GaussianStatistics:
        """Of features ``[B, D]``."""
        total = torch.zeros(features.shape[1], dtype=torch.float64)
        result = cls(0, total, total.outer(total))
        result.add(features)
        return result

    def add(self, features: Tensor) -> None:
        """Add features ``[B, D]``."""
        features = features.detach().cpu().double()
        self.count += len(features)
        self.total += features.sum(dim=0)
        self.outer.addmm_(features.T, features)

    @property
    def mean(self) -> Tensor:
        """``[D]``."""
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """``[D, D]``, unbiased."""
        return (self.outer - self.total.outer(self.mean)) / (self.count - 1)


@dataclass(frozen=True)
class RealStatistics:
    """What FID, sFID and KID need of the real images.

    ``sample`` ``[M, P]`` float32 are pooled features of all the images, or of a random choice.
    """

    pool: GaussianStatistics
    spatial: GaussianStatistics
    sample: Tensor


def frechet_distance(a: GaussianStatistics, b: GaussianStatistics) -> float:
    """The squared Fréchet distance d² that the literature calls FID.

    The trace of (Σa Σb)^½ is the sum of the singular values of Aᵀ B, where Σa = A Aᵀ and Σb = B Bᵀ.
    No root of a rounding error is taken, so it is exact where covariances lack full rank, too.

    Raises:
        ValueError: when a set has fewer than two images, or the features' sizes differ.
    """
    if min(a.count, b.count) < 2:
        raise DataError(
            f"A Fréchet distance needs two images of each set, got {a.count} and {b.count}."
        )
    if a.total.shape != b.total.shape:
        raise DataError(
            f"A Fréchet distance compares features of one size, got {len(a.total)} and "
            f"{len(b.total)}."
        )
    spread_a, spread_b = a.covariance, b.covariance
    shared = torch.linalg.svdvals(_root(spread_a).T @ _root(spread_b)).sum()
    shift = (a.mean - b.mean).square().sum()
    # Rounding alone could take the distance of equal sets below zero.
    return max(float(shift + spread_a.trace() + spread_b.trace() - 2 * shared), 0.0)


def _root(covariance: Tensor) -> Tensor:
    """``[D, R]`` whose product with its transpose is the covariance, of rank R."""
    values, vectors = torch.linalg.eigh(covariance)
    rounding = values.abs().max() * len(values) * torch.finfo(values.dtype).eps
    kept = values > rounding
    return vectors[:, kept] * values[kept].sqrt()


def kernel_distance(real: Tensor, generated: Tensor, seed: int = 0) -> tuple[float, float]:
    """KID and its standard deviation over random subsets of features ``[N, P]`` and ``[M, P]``.

    The mean of 100 subsets of 1,000 images each, or of half the smaller set where that is less:
    subsets that were the whole set would all be the same.

    Raises:
        ValueError: when a set has fewer than two images.
    """
    fewest = min(len(real), len(generated))
    if fewest < 2:
        raise DataError(f"KID needs two images of each set, got {len(real)} and {len(generated)}.")
    size, generator = min(SUBSET_SIZE, max(fewest // 2, 2)), Generator().manual_seed(seed)

    def drawn(features: Tensor) -> Tensor:
        rows = torch.randperm(len(features), generator=generator)[:size]
        return features[rows.to(features.device)].float()

    scores = torch.stack([poly_mmd(drawn(real), drawn(generated)) for _ in range(SUBSETS)])
    return float(scores.mean()), float(scores.std(correction=0))


def distances(real: RealStatistics, other: RealStatistics) -> dict[str, float]:
    """``fid``, ``sfid``, ``kid`` and ``kid_std`` of two sets; ValueError as of their parts."""
    kid, kid_std = kernel_distance(real.sample, other.sample)
    fid = frechet_distance(real.pool, other.pool)
    sfid = frechet_distance(real.spatial, other.spatial)
    return {"fid": fid, "sfid": sfid, "kid": kid, "kid_std": kid_std}


class GenerationQuality(RowMetric):
    """FID, sFID and KID of generated images against a real set; features take 16 KiB per image.

    ``network`` moves along with the metric, where it is a module; ``real`` comes from it, too.

    >>> class Corner:
    ...     signature = "corner pixel, and its row"
    ...     def features(self, images):
    ...         return images[:, 0, 0, :1], images[:, 0, 0]
    >>> images = torch.rand(8, 3, 4, 4) * 2 - 1
    >>> pool, spatial = Corner().features(images)
    >>> real = RealStatistics(GaussianStatistics.of(pool), GaussianStatistics.of(spatial), pool)
    >>> quality = GenerationQuality(Corner(), real)
    >>> quality.update(images)
    >>> result = quality.compute()
    >>> round(float(result["fid"]), 6), round(float(result["sfid"]), 6), int(result["fid_images"])
    (0.0, 0.0, 8)
    """

    higher_is_better = False

    def __init__(self, network: FeatureNetwork, real: RealStatistics, **kwargs: object) -> None:
        sizes = {"pool": len(real.pool.total), "spatial": len(real.spatial.total)}
        super().__init__({name: torch.zeros(0, size) for name, size in sizes.items()}, **kwargs)
        self.network, self.real = network, real

    def update(self, images: Tensor, index: Tensor | None = None) -> None:
        """Add generated images ``[B, C, H, W]`` in [-1, 1], of any size."""
        pool, spatial = self.network.features(images)
        self.keep(index, pool=pool, spatial=spatial)

    def compute(self) -> dict[str, Tensor]:
        """``fid``, ``sfid``, ``kid``, ``kid_std``, ``fid_images`` and ``fid_real_images``.

        Raises:
            ValueError: when fewer than two images were added.
        """
        pool, spatial = (rows.cpu() for rows in self.kept("pool", "spatial")[:2])
        own = RealStatistics(GaussianStatistics.of(pool), GaussianStatistics.of(spatial), pool)
        counts = {"fid_images": len(pool), "fid_real_images": self.real.pool.count}
        result = distances(self.real, own) | counts
        return {k: torch.tensor(float(v), device=self.device) for k, v in result.items()}
