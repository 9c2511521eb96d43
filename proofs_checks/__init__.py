"""The theorems of logits matching as runnable checks."""
