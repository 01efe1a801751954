"""Lightning callbacks: what happens during a training, and counterfactuals that are drawn."""
