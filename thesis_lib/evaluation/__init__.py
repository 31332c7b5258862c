"""How good a representation is: classification, OOD detection, two-dimensional embeddings, statistics over seeds."""
