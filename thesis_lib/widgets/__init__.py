"""Looking at augmentations: the explorer with its sliders, the bounded grid behind it, and sheets for print."""
