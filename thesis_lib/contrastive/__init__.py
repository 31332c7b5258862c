"""Contrastive learning: losses, encoders, views, batches, pre-training and the classifiers on frozen features."""
