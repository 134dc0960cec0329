"""Training and prediction on other ranks."""
