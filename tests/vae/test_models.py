import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Normal
from torch.distributions import kl_divergence as torch_kl

from tests.vae.toy import ATTRIBUTES, generator
from thesis_lib.vae.models import (
    AttributeLikelihood,
    PictureVAE,
    TableVAE,
    kl_divergence,
    normalised_beta,
    objective,
    posterior_sample,
)


def test_kl_is_torchs_and_that_of_monte_carlo():
    mean, log_variance = torch.randn(4, 3, generator=generator()), torch.randn(4, 3, generator=generator(1))
    closed = kl_divergence(mean, log_variance)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    torch.testing.assert_close(closed, torch_kl(posterior, Normal(0.0, 1.0)).sum(-1))
    z = posterior_sample(mean, log_variance, torch.randn(200_000, 4, 3, generator=generator(2)))
    sampled = (posterior.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(-1)
    assert ((sampled.mean(0) - closed).abs() < 4 * sampled.std(0) / math.sqrt(len(z))).all()


def test_beta_norm_is_the_sources():
    # d = 2 and beta = 1: the slides print 0.133, 0.25, 0.033, 0.222, 0.1, 0.095 for these numbers of attributes
    norms = [round(normalised_beta(1, 2, attributes), 3) for attributes in (15, 8, 60, 9, 20, 21)]
    assert norms == [0.133, 0.25, 0.033, 0.222, 0.1, 0.095]
    assert normalised_beta(150, 32, 64 * 64 * 3) == pytest.approx(0.390625)


def test_each_attribute_has_its_likelihood():
    likelihood = AttributeLikelihood(ATTRIBUTES)
    with torch.no_grad():
        likelihood.raw_log_variance[:] = torch.tensor([[0.3, -0.8]])
    outputs = torch.randn(1, 2, 7, generator=generator())
    x = torch.tensor([[[0.5, 1.5, 0, 1, 0, 1, 0], [-1.0, 0.0, 1, 0, 0, 0, 1]]])
    by_hand = []
    for o, v in zip(outputs[0], x[0], strict=True):
        total = Normal(o[0], math.exp(0.15)).log_prob(v[0])
        if v[2] == 0:  # a missing number says nothing, that it is missing does
            total = total + Normal(o[1], math.exp(-0.4)).log_prob(v[1])
        total = total + Bernoulli(logits=o[2]).log_prob(v[2]) + Bernoulli(logits=o[3]).log_prob(v[3])
        by_hand.append(total + Categorical(logits=o[4:]).log_prob(v[4:].argmax()))
    torch.testing.assert_close(likelihood.log_prob(outputs, x)[0], torch.stack(by_hand))


def test_samples_have_the_datas_code_and_the_likelihoods_frequencies():
    likelihood = AttributeLikelihood(ATTRIBUTES)
    outputs = torch.tensor([0.5, -1.0, 0.4, -0.7, 0.2, 1.0, -0.5]).expand(1, 40_000, 7)
    x = likelihood.sample(outputs, generator())[0].detach()
    assert ((x[:, 4:].sum(1) == 1) & ((x[:, 4:] == 0) | (x[:, 4:] == 1)).all(1)).all()
    assert (x[x[:, 2] == 1, 1] == 0).all()  # missing
    torch.testing.assert_close(x[:, 4:].mean(0), outputs[0, 0, 4:].softmax(0), atol=0.01, rtol=0)
    torch.testing.assert_close(x[:, 2:4].mean(0), outputs[0, 0, 2:4].sigmoid(), atol=0.01, rtol=0)
    there = x[x[:, 2] == 0, 1]
    assert there.mean() == pytest.approx(-1, abs=0.03) and there.std() == pytest.approx(1, abs=0.03)


def test_the_variance_has_a_floor():
    likelihood = AttributeLikelihood(ATTRIBUTES[:1])
    with torch.no_grad():
        likelihood.raw_log_variance[:] = -50
    value = likelihood.log_prob(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    assert value.item() == pytest.approx(Normal(0.0, 0.1).log_prob(torch.tensor(0.0)).item(), abs=1e-5)


def test_the_objective_is_equation_1_for_every_network_of_a_stack():
    torch.manual_seed(0)
    model = TableVAE(ATTRIBUTES, 7, 2, 8, stack=3)
    x = torch.rand(3, 5, 7, generator=generator())
    noise, betas = torch.randn(3, 5, 2, generator=generator(1)), torch.tensor([0.0, 0.5, 2.0])
    found = objective(model, x, betas, noise)
    for member, beta in enumerate(betas):
        alone = TableVAE(ATTRIBUTES, 7, 2, 8)  # the same network by itself
        alone.load_state_dict({name: value[member : member + 1] for name, value in model.state_dict().items()})
        mean, log_variance = alone.encode(x[member : member + 1])
        z = mean + (log_variance / 2).exp() * noise[member]
        kl = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(-1)
        by_hand = (beta * kl - alone.log_prob(alone.decode(z), x[member : member + 1])).mean()
        torch.testing.assert_close(found[member], by_hand)


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 64), (3, 32)])
def test_picture_vaes_have_the_shapes_and_likelihoods_they_say(channels, side):
    torch.manual_seed(0)
    model = PictureVAE(channels, side, 5, 4)
    x = torch.rand(1, 3, channels, side, side, generator=generator())
    mean, log_variance = model.encode(x)
    outputs = model.decode(mean)
    assert mean.shape == log_variance.shape == (1, 3, 5) and outputs.shape == x.shape
    if channels == 1:
        p = outputs.sigmoid()
        by_hand = (x * p.log() + (1 - x) * (1 - p).log()).sum((2, 3, 4))
    else:
        by_hand = -0.5 * ((x - outputs) ** 2).sum((2, 3, 4))
    torch.testing.assert_close(model.log_prob(outputs, x), by_hand, rtol=1e-4, atol=1e-3)
    pictures = model.pictures(mean[0])
    assert pictures.shape == x.shape[1:] and pictures.min() >= 0 and pictures.max() <= 1
