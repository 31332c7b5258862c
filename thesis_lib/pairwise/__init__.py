"""Companion study 1: pairwise and triplet contrastive learning on a small network, and what goes beyond it.

The source is a practical course's report, "Investigating the effects of different image augmentations and data sets on
pairwise and triplet loss" (Goethe University Frankfurt, 2021), with its public notebook.
"""
