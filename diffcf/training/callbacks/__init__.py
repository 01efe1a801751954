"""Lightning callbacks: measuring counterfactuals, resuming exactly, budgets, writing answers."""
