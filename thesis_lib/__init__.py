"""Contrastive learning with Stable-Diffusion-based data augmentation.

Importing the package loads no model, reads no file and touches no network.
"""
