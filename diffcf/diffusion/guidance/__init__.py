r"""Guidance: change the predicted noise so that the image shows the target factors.

With the projector's mean :math:`\hat z(x_t)` and variance :math:`\Sigma(x_t)`, and the target
:math:`z_{cf}`, all of them codes (:meth:`CausalGraph.encode`; probabilities where factors are
discrete),

.. math::
    \tilde\epsilon = \epsilon_\theta - \lambda_t \sqrt{1 - \bar\alpha_t}\; g_t, \qquad
    g_t = \nabla_{x_t} \log p(Z = z_{cf} \mid x_t) = J^\top \Sigma^{-1} (z_{cf} - \hat z).

The projector reads x_t itself, so the gradient passes through the small projector only, never
through the generator. The rules differ in the scalar :math:`\lambda_t`; write
:math:`r^2 = 1 - \bar\alpha_t`, so that a step of λ moves x_t by :math:`\lambda r^2 g_t`:

- ``none``: 0.
- ``constant``: one number.
- ``variance_balanced``: :math:`\lambda_t = \gamma / (r\, \mathrm{std}(g_t))` per sample, capped.
  The guidance term then has standard deviation γ beside a noise of standard deviation 1, at every
  step. This is *our reconstruction* of the paper's self-adjusting λt: its formula is not available
  to us, only that it balances the variance of the two terms. The cap matters: as the target is
  reached, g vanishes and an uncapped λ would amplify what is left.
- ``line_search``: ours. A trial step of λ = 1 changes the reading by
  :math:`m = \hat z(x_t + r^2 g_t) - \hat z(x_t)`. If the reading is linear along g, it comes
  nearest to the target at

  .. math::
      \lambda_t = \gamma\, \frac{m^\top \Sigma^{-1} (z_{cf} - \hat z)}{m^\top \Sigma^{-1} m}

  with γ = 1; a larger γ makes up for what the generator undoes at the following steps. λ adjusts
  per sample and per step, and stays finite as the target is reached, where numerator and
  denominator both vanish.
- ``polyak``: ours. By Cauchy and Schwarz the exact step above is at most

  .. math::
      \lambda_t = \gamma\,
      \frac{(z_{cf} - \hat z)^\top \Sigma^{-1} (z_{cf} - \hat z)}{r^2 \|g_t\|^2}

  with γ = 1, with equality where all factors that are off respond alike. This is Polyak's step
  toward a least value of 0; it needs no trial.
- ``gauss_newton``: the shift :math:`J^\top (J J^\top + \Sigma / r^2)^{-1} (z_{cf} - \hat z)`: a
  Kalman gain that adjusts per sample and per direction, at the price of one backward pass per
  factor.

References:
    Diffusion Models Beat GANs (Dhariwal & Nichol, 2021), https://arxiv.org/abs/2105.05233
    Pseudoinverse-Guided Diffusion Models (Song et al., 2023), https://openreview.net/forum?id=9_gsMA8MRKQ
    Numerical Optimization, section 3.3: the exact step of steepest descent (Nocedal & Wright, 2006)
    Introduction to Optimization, section 5.3.2: the step toward a known least value (Polyak, 1987)
    Diffusion counterfactuals: arXiv 2407.20553
"""
