"""How much faster is generation than single calls of diffusers' pipeline? No test, a script.

    python tests/generation_speed.py [PICTURES]

The bundled miniature, the same sources, prompt, steps, insertion timestep and guidance; one after the other on a quiet
machine, the pipeline both before and after, so that a drift of the machine shows.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

from thesis_lib.datasets import PreparedSet, few_shot, prepare_data
from thesis_lib.diffusion.base import BUNDLED, load_base_model
from thesis_lib.diffusion.concepts import Concepts
from thesis_lib.diffusion.generation import choose_sources, generate, work_list
from thesis_lib.sections import DataParameters, GenerationParameters, ModelParameters, SetParameters


def single_calls(pipeline: StableDiffusionImg2ImgPipeline, shots: PreparedSet, strength: float, count: int) -> float:
    """Seconds for `count` pictures, one call each, written as PNG like ours."""
    pictures = [Image.fromarray(p.permute(1, 2, 0).numpy()) for p in shots.pictures]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for i in range(count):
            made = pipeline(
                prompt=f"a photo of a used {shots.table['class_name'][i % len(pictures)].replace('_', ' ')}",
                image=pictures[i % len(pictures)], strength=strength, num_inference_steps=STEPS, guidance_scale=3.0,
                generator=torch.Generator().manual_seed(i),
            ).images[0]  # fmt: skip
            made.save(Path(folder) / f"{i}.png")
    return time.perf_counter() - started


STEPS = 50


def main(count: int) -> None:
    """Time both and print the ratio."""
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        data = prepare_data(DataParameters(num_classes=4), 64, Path(folder) / "data")
        shots = data.images.select(few_shot(data.images.table, 2, 0).index)
        base = load_base_model(ModelParameters())
        pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(BUNDLED, torch_dtype=torch.float32)
        pipeline.set_progress_bar_config(disable=True)
        sets = {
            kind: SetParameters(strengths=[0.4], guidance_scales=[3.0], prompts=["a photo of a used {}"], mask="none")
            for kind in ("id", "near_ood")
        }
        p = GenerationParameters(steps=STEPS, sources=2, per_source=count // 16, batch=32, **sets)
        concepts = Concepts(base, {}, data.classes)
        work = work_list(base, concepts, choose_sources(shots.table, shots.masks, p, 0), p, 0)
        seconds = [single_calls(pipeline, shots, 0.4, len(work))]
        started = time.perf_counter()
        generate(base, concepts, work, shots.pictures, shots.masks, p, Path(folder) / "made")
        ours = time.perf_counter() - started
        seconds.append(single_calls(pipeline, shots, 0.4, len(work)))
    print(f"{len(work)} pictures, {int(STEPS * 0.4)} steps each")
    print(f"single calls {seconds[0]:.1f} s and {seconds[1]:.1f} s")
    print(f"generate {ours:.1f} s: {min(seconds) / ours:.2f} times faster")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 96)
