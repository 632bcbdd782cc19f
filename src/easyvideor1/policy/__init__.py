"""The trained model: forward passes, optimiser, reference, critic, adapters, state on disk."""
