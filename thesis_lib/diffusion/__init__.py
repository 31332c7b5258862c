"""Base models, textual inversion, image-to-image augmentation and the bundled miniature Stable Diffusion."""
