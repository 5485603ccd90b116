"""What the clones of one project share: completions, the outputs of stages, the locks, and the lease that lets one cycle at a time work in them."""
