"""Build the full-size Stable Diffusion 1.5 shape with random weights and run one step of each stage; no test, a script.

    python tests/full_size.py CONFIGS OUT

CONFIGS: a folder of Stable Diffusion 1.5 without weights, configuration files and tokenizer. OUT gets the model in half
precision (2 GB) and the pictures. Needs about 16 GB of memory and some minutes on a CPU.
"""

import sys
import time
from pathlib import Path

import pandas as pd
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionImg2ImgPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from thesis_lib.contrastive.batches import Pool
from thesis_lib.contrastive.pretraining import pretrain
from thesis_lib.diffusion.base import load_base_model
from thesis_lib.diffusion.generation import choose_sources, generate, work_list
from thesis_lib.diffusion.inversion import learn_concepts
from thesis_lib.diffusion.manifest import read_manifest
from thesis_lib.parameter_files import read_parameters
from thesis_lib.parameters import Arm, Parameters
from thesis_lib.sections import InversionParameters, Kind, ModelParameters


def build(configs: Path, out: Path) -> None:
    """Write a diffusers folder of the configured shape with random weights."""
    torch.manual_seed(0)
    pipeline = StableDiffusionImg2ImgPipeline(
        vae=AutoencoderKL.from_config(AutoencoderKL.load_config(configs / "vae")).half(),
        unet=UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(configs / "unet")).half(),
        text_encoder=CLIPTextModel(CLIPTextConfig.from_pretrained(configs / "text_encoder")).half(),
        tokenizer=CLIPTokenizer.from_pretrained(configs / "tokenizer"),
        scheduler=DDIMScheduler.from_pretrained(configs / "scheduler"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(out)


def main(configs: Path, out: Path) -> None:
    """Build, then one step of textual inversion, generation and contrastive training, each timed."""
    started = time.time()

    def say(what: str) -> None:
        print(f"{time.time() - started:7.1f} s  {what}", flush=True)

    if not (out / "model" / "model_index.json").exists():
        build(configs, out / "model")
    say("built")
    base = load_base_model(ModelParameters(base=str(out / "model"), size=512, precision="bf16"))
    say(f"loaded: UNet {sum(p.numel() for p in base.unet.parameters()) / 1e6:.0f} M parameters, {base.dtype}")
    table = pd.DataFrame(
        {"path": ["a.png", "b.png"], "source_id": ["a", "b"], "class_name": ["motor", "pump"], "label": [0, 1]}
    )
    pictures = torch.randint(0, 255, (2, 3, 512, 512), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 512, 512, dtype=torch.bool)
    masks[:, 128:384, 128:384] = True
    inversion = InversionParameters(
        vectors=16, initializer_word="motor", steps=1, batch=2, learning_rate=5e-4, warm_up=0
    )
    labels = torch.tensor([0, 1])
    concepts, history = learn_concepts(base, ["motor", "pump"], pictures, labels, inversion, 0, out / "concepts")
    say(f"textual inversion, one step: loss {history['loss'].mean():.3f}")
    asked = read_parameters(Path(__file__).parents[1] / "parameters" / "mvip.yaml").generation
    asked = asked.model_copy(update={"steps": 5, "sources": 1, "per_source": 1})
    work = work_list(base, concepts, choose_sources(table, masks, asked, 0), asked, 0)
    generate(base, concepts, work, pictures, masks, asked, out / "synthetic")
    manifest, made = read_manifest(out / "synthetic")
    say(f"generation: {len(made)} pictures of {made.shape[-1]} px at timesteps {sorted(set(manifest['timestep']))}")
    mvip = read_parameters(Path(__file__).parents[1] / "parameters" / "mvip.yaml")
    training = mvip.training.model_copy(update={"steps": 1, "classes_per_batch": 2})
    pools = {Kind.REAL: Pool(pictures, labels)}
    pools |= {
        kind: Pool(made[rows], torch.tensor(manifest["label"].to_numpy())[rows])
        for kind in (Kind.ID, Kind.NEAR_OOD)
        if (rows := torch.from_numpy((manifest["kind"] == str(kind)).to_numpy())).any()
    }
    parameters = Parameters(name="full", encoder=mvip.encoder, training=training)
    _, curve = pretrain(Arm.REAL_ID_NEAROOD, pools, parameters, 0, out / "training")
    say(f"contrastive training, one step of ResNet-50 at {mvip.encoder.size} px: loss {curve['loss'].iloc[0]:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
