"""The duration of the large-vocabulary (LV) regime: when learned embeddings restore alignment."""
