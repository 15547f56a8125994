"""Training heads on cached features, and predicting with them."""
