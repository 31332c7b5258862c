import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline

from thesis_lib.diffusion import augmentation
from thesis_lib.diffusion.augmentation import Request, augment, insertion_timestep, reconstruct, region_masks
from thesis_lib.diffusion.concepts import Concepts
from thesis_lib.errors import ThesisError


def requests(timestep, guidance=3.0):
    prompts = ["a photo of a gear", "a photo of a rusty gear", "a photo of a bolt"]
    return [Request(i, prompt, timestep, guidance, 100 + i) for i, prompt in enumerate(prompts)]


def test_strengths_mean_the_published_timesteps(tiny_base):
    assert insertion_timestep(tiny_base, 50, strength=0.2) == (181, 0.2)
    assert insertion_timestep(tiny_base, 50, strength=0.5) == (481, 0.5)
    assert insertion_timestep(tiny_base, 50, timestep=200) == (181, 0.2)


@pytest.mark.parametrize("wanted", [{"strength": 0.01}, {"timestep": 0}])
def test_zero_effective_steps_are_refused(tiny_base, wanted):
    with pytest.raises(ThesisError, match="0 effective steps"):
        insertion_timestep(tiny_base, 50, **wanted)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_a_batch_equals_single_calls_of_diffusers_pipeline(tiny_model_folder, tiny_base, shots, guidance):
    _, pictures, _ = shots
    timestep, strength = insertion_timestep(tiny_base, 10, strength=0.5)
    concepts = Concepts(tiny_base, {}, ["gear"])
    made = augment(tiny_base, concepts, pictures[:3], tiny_base.encode(pictures[:3]), requests(timestep, guidance), 10)
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(tiny_model_folder)
    pipeline.set_progress_bar_config(disable=True)
    for i, request in enumerate(requests(timestep, guidance)):
        single = pipeline(
            request.prompt, image=pictures[i : i + 1].float() / 255, strength=strength, num_inference_steps=10,
            guidance_scale=guidance, generator=torch.Generator().manual_seed(request.seed), output_type="np",
        ).images[0]  # fmt: skip
        difference = np.abs(np.round(single * 255) - made[i].permute(1, 2, 0).numpy())
        assert difference.max() <= 1
        assert np.abs(made[i].float() - pictures[i].float()).mean() > 1


def test_a_picture_does_not_depend_on_its_batch(tiny_base, shots):
    _, pictures, masks = shots
    timestep, _ = insertion_timestep(tiny_base, 10, strength=0.6)
    concepts, latents = Concepts(tiny_base, {}, ["gear"]), tiny_base.encode(pictures)
    wanted = requests(timestep)
    together = augment(tiny_base, concepts, pictures, latents, wanted, 10, masks[:3])
    backwards = augment(tiny_base, concepts, pictures, latents, wanted[::-1], 10, masks[:3]).flip(0)
    alone = torch.cat([augment(tiny_base, concepts, pictures, latents, [r], 10, masks[:1]) for r in wanted])
    assert (together.int() - backwards.int()).abs().max() <= 1
    assert (together.int() - alone.int()).abs().max() <= 1


def test_latents_are_held_at_the_source_outside_the_region_and_go_their_way_inside(tiny_base, shots, monkeypatch):
    seen, real = [], augmentation.denoise

    def spy(*given):
        made = real(*given)
        seen.append((given[6], made))
        return made

    monkeypatch.setattr(augmentation, "denoise", spy)
    _, pictures, masks = shots
    timestep, _ = insertion_timestep(tiny_base, 10, strength=0.8)
    latents = tiny_base.encode(pictures[:3])
    augment(tiny_base, Concepts(tiny_base, {}, []), pictures[:3], latents, requests(timestep), 10, masks[:3])
    (inside, clean, _), made = seen[0]
    inside = inside.bool().expand_as(clean)
    assert torch.allclose(made[~inside], clean[~inside], atol=1e-5)
    assert (made[inside] - clean[inside]).abs().mean() > 0.1


@pytest.mark.parametrize("region", ["object", "background", "box"])
def test_outside_the_region_nothing_changes(tiny_base, shots, region):
    _, pictures, masks = shots
    timestep, _ = insertion_timestep(tiny_base, 10, strength=0.8)
    may_change = region_masks(masks[:3], region, [1, 2, 3])
    concepts = Concepts(tiny_base, {}, ["gear"])
    made = augment(
        tiny_base, concepts, pictures[:3], tiny_base.encode(pictures[:3]), requests(timestep), 10, may_change
    )
    outside = ~may_change[:, None].expand_as(made)
    assert torch.equal(made[outside], pictures[:3][outside])
    assert not torch.equal(made[~outside], pictures[:3][~outside])


def test_regions(shots):
    _, _, masks = shots
    grown, back, box = (region_masks(masks[:2], region, [1, 2]) for region in ("object", "background", "box"))
    assert (grown & masks[:2]).sum() == masks[:2].sum() < grown.sum()
    assert torch.equal(back, ~masks[:2])
    assert not (box & ~grown).any() and box.flatten(1).sum(1).eq(8 * 8).all() and not torch.equal(box[0], box[1])
    bent = torch.zeros(1, 32, 32, dtype=torch.bool)
    bent[0, 4:28, 4:8], bent[0, 24:28, 4:28] = True, True  # most of its bounding box is no object
    assert all((region_masks(bent, "box", [seed]) & bent).any() for seed in range(40))
    with pytest.raises(ThesisError, match="an object mask is empty"):
        region_masks(torch.zeros(1, 32, 32, dtype=torch.bool), "object", [0])


def test_reconstruction_keeps_what_is_outside(tiny_base, shots):
    _, pictures, masks = shots
    passed = reconstruct(tiny_base, pictures, masks)
    outside = ~masks[:, None].expand_as(passed)
    assert torch.equal(passed[outside], pictures[outside]) and not torch.equal(passed, pictures)
