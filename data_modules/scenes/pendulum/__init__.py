"""The Pendulum: a hanging ball, a sun, and the shadow that the two cast."""
