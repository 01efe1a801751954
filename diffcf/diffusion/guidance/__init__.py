r"""Guidance: steer a path so that the image it leads to has the wished factors.

With the projector's :math:`\hat z(x_t)`, :math:`\Sigma(x_t)` and the target :math:`z_{cf}`, all of
them codes (:meth:`CausalGraph.encode`; probabilities where factors are discrete),

.. math::
    \tilde\epsilon = \epsilon_\theta - \lambda_t \sqrt{1 - \bar\alpha_t}\; g_t, \qquad
    g_t = \nabla_{x_t} \log p(Z = z_{cf} \mid x_t) = J^\top \Sigma^{-1} (z_{cf} - \hat z).

The projector reads x_t itself, so the gradient passes through the small projector only, never
through the generator. The rules differ in the scalar :math:`\lambda_t`:

- ``none``: 0.
- ``constant``: one number.
- ``variance_balanced``: :math:`\lambda_t = \gamma / (\sqrt{1 - \bar\alpha_t}\, \mathrm{std}(g_t))`
  per sample, capped. The guidance term then has standard deviation γ beside a noise of standard
  deviation 1, at every step. This is *our reconstruction* of the paper's self-adjusting λt: its
  formula is not available to us, only that it balances the variance of the two terms. The cap
  matters: as the target is reached, g vanishes and an uncapped λ would blow up what is left.
- ``line_search``: ours. A step of λ moves x_t by :math:`\lambda r^2 g_t` with
  :math:`r^2 = 1 - \bar\alpha_t`, and the reading, seen from a trial of λ = 1, by :math:`\lambda m`,
  :math:`m = \hat z(x_t + r^2 g_t) - \hat z(x_t)`. The reading comes nearest to the target at

  .. math::
      \lambda_t = \gamma\, \frac{m^\top \Sigma^{-1} (z_{cf} - \hat z)}{m^\top \Sigma^{-1} m}

  with γ = 1; more makes up for what the generator takes back at the steps that follow. It adjusts
  itself per sample and per step, and stays finite as the target is reached: both forms vanish.
- ``polyak``: ours. The exact step needs m, the reading's answer to a trial. By Cauchy and Schwarz
  it is at most

  .. math::
      \lambda_t = \gamma\,
      \frac{(z_{cf} - \hat z)^\top \Sigma^{-1} (z_{cf} - \hat z)}{r^2 \|g_t\|^2}

  with γ = 1, and just that where all factors that are amiss answer alike. This is Polyak's step
  toward a least value of 0; it needs no trial.
- ``gauss_newton``: the shift :math:`J^\top (J J^\top + \Sigma / r^2)^{-1} (z_{cf} - \hat z)`: a
  Kalman gain that adjusts itself per sample and per direction, at the price of one backward pass
  per factor.

References:
    Diffusion Models Beat GANs (Dhariwal & Nichol, 2021), https://arxiv.org/abs/2105.05233
    Pseudoinverse-Guided Diffusion Models (Song et al., 2023), https://openreview.net/forum?id=9_gsMA8MRKQ
    Numerical Optimization, section 3.3: the exact step of steepest descent (Nocedal & Wright, 2006)
    Introduction to Optimization, section 5.3.2: the step toward a known least value (Polyak, 1987)
    Diffusion counterfactuals: arXiv 2407.20553
"""
