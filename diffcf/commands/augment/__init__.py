"""``diffcf augment``: a data set extended by counterfactuals of its images."""
