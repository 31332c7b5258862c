"""The names of what the harness compares, in the order in which tables and figures show them."""

VIEWS = ("none", "classical", "pasted", "randaugment", "mixup_cutmix")
"""Views alone; mixup and CutMix come on top of classical views, and so do other backgrounds behind half of the objects
(`pasted`); RandAugment takes the place of the colour jitter."""
DA_FUSION = ("da_fusion", "da_fusion_object", "da_fusion_background", "da_fusion_filter", "da_fusion_half")
"""Those whose pictures a main run has made: those it trains on, those with an edited object, with an edited background,
the half that its generative filter keeps, and a half at random."""
VAE = ("vae", "vae_gc", "from_shots")
"""Those that a VAE makes; `from_shots`, for digits, by one that has seen the shots alone."""
MADE = (*VAE, *DA_FUSION)
"""Generated pictures, which make half of each batch."""
ALONE = (*VAE, "da_fusion")
"""Those that are also trained on without views; choices among DA-Fusion's pictures are compared with views only."""
WITH_VIEWS = tuple(f"classical_{name}" for name in MADE)
"""Generated pictures with classical views of all."""
METHODS = (*VIEWS, *ALONE, *WITH_VIEWS)
