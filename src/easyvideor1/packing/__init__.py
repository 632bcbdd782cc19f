"""From turns to packed micro-batches, and from hidden states to log-probs."""
