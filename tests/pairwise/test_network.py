import pytest
import torch

from thesis_lib.pairwise.network import SmallNetwork, features_by_batch, layer_table

COUNTS = [0, 8_192, 128, 0, 32_768, 256, 0, 131_072, 512, 0, 8_192, 0, 0]
SHAPES = {
    1: [(32, 15, 15)] * 2 + [(64, 8, 8)] * 3 + [(128, 5, 5)] * 3 + [(256, 3, 3)] * 3 + [(8, 2, 2)] * 2 + [(32,)],
    3: [(32, 17, 17)] * 2 + [(64, 9, 9)] * 3 + [(128, 5, 5)] * 3 + [(256, 3, 3)] * 3 + [(8, 2, 2)] * 2 + [(32,)],
}


@pytest.mark.parametrize(("channels", "size", "first"), [(1, 28, 128), (3, 32, 384)])
def test_layers_are_those_of_the_sources_tables(channels, size, first):
    kinds, shapes, counts = zip(*layer_table(SmallNetwork(channels), size), strict=True)
    block = ["Conv2d", "BatchNorm2d", "LeakyReLU"]
    assert list(kinds) == ["Conv2d", "LeakyReLU", *block * 3, "Conv2d", "Sigmoid", "Flatten"]
    assert list(counts) == [first, *COUNTS]
    assert list(shapes) == SHAPES[channels]


def test_pictures_are_normalised_and_features_lie_in_the_unit_cube():
    torch.manual_seed(0)
    network, pictures = SmallNetwork(1), torch.rand(4, 1, 28, 28)
    features = network(pictures)
    assert features.shape == (4, 32) and features.min() > 0 and features.max() < 1
    assert torch.allclose(features, torch.nn.Sequential(*network)((pictures - 0.5) / 0.5), atol=1e-6)
    assert SmallNetwork(1, sigmoid=False)(pictures).min() < 0


def test_published_features_depend_on_the_batch_and_leave_the_network_alone():
    torch.manual_seed(0)
    network = SmallNetwork(1).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    pictures = torch.randint(0, 255, (20, 1, 28, 28), dtype=torch.uint8)
    features = features_by_batch(network, pictures, 8, 0)
    assert torch.equal(features, features_by_batch(network, pictures, 8, 0))
    assert not torch.allclose(features, features_by_batch(network, pictures, 8, 1), atol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    whole = network(pictures.float() / 255)  # one batch: any order is the same
    assert torch.allclose(features_by_batch(network, pictures, 20, 5), whole, atol=1e-5)
