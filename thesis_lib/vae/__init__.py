"""Companion study 2: data augmentation with variational autoencoders (Iser, Bonn 2023)."""
