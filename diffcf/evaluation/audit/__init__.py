"""What a factor does to the output of any classifier of images."""
