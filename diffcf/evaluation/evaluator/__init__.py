"""The independent evaluator: a network that reads factors off images, to judge counterfactuals."""
