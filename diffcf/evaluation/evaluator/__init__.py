"""The independent evaluator: a network that reads factors off images, to judge counterfactuals by.

It shares nothing with the projector that guides but the class of network: weights, seed and size
are its own, and it sees clean images only.
"""
