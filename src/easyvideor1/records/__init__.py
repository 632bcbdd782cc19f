"""What a run writes about its trajectories, and how it is read back."""
