"""The classifiers whose weighted F1 is the figure of merit: a small network, and scikit-learn's."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from thesis_lib.randomness import derive_seed, torch_generator
from thesis_lib.vae.parameters import ClassifierName, NetworkParameters


class SmallNetwork:
    """A small network with scikit-learn's `fit`, `predict_proba`, `predict`; always the same number of steps.

    Pictures (n, channels, side, side) get two convolutions, each with max pooling, dropout and a linear layer, anything
    else one hidden layer. What a class has more examples of, the network sees more often, as the source's sets do.

    Args:
        p: Width, steps, batch, learning rate.
        seed: Seeds weights and batches.
    """

    def __init__(self, p: NetworkParameters, seed: int) -> None:
        self.p, self.seed = p, seed

    def fit(self, x: np.ndarray, y: np.ndarray) -> "SmallNetwork":
        """Train on examples (n, ...) float32 and labels (n,) from 0 on."""
        examples, labels, p = torch.as_tensor(x), torch.as_tensor(y), self.p
        generator = torch_generator(self.seed, "network batches")
        rows = torch.randint(len(labels), (p.steps, p.batch), generator=generator)
        with torch.random.fork_rng([]):  # weights and dropout are drawn from the global generator
            torch.manual_seed(derive_seed(self.seed, "network"))
            self.network = self._build(tuple(examples.shape[1:]), int(labels.max()) + 1)
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on a CPU
            optimizer = torch.optim.Adam(self.network.parameters(), lr=p.learning_rate)
            for chosen in rows:
                loss = F.cross_entropy(self.network(examples[chosen]), labels[chosen])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
        self.network.eval()
        return self

    def _build(self, shape: tuple[int, ...], classes: int) -> nn.Sequential:
        width = self.p.width
        if len(shape) == 1:
            return nn.Sequential(nn.Linear(shape[0], width), nn.ReLU(), nn.Linear(width, classes))
        return nn.Sequential(
            nn.Conv2d(shape[0], width // 2, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(width // 2, width, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(), nn.Dropout(0.5), nn.Linear(width * (shape[-1] // 4) ** 2, classes),
        )  # fmt: skip

    @torch.no_grad()
    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """(n, classes), float64: in single precision what is surest would be 1 and equal."""
        return torch.cat([self.network(part).double().softmax(1) for part in torch.as_tensor(x).split(1024)]).numpy()

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(n,) labels."""
        return self.predict_proba(x).argmax(1)


def build_classifier(name: ClassifierName, p: NetworkParameters, seed: int) -> Any:
    """The classifier of a name; scikit-learn's keep its defaults but for what is said here."""
    if name == "network":
        return SmallNetwork(p, seed)
    if name == "forest":
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(n_estimators=200, random_state=derive_seed(seed, "forest") % 2**32)
    if name == "logistic":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=2000)
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(n_neighbors=1)


def weighted_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Weighted F1 of labels (n,): the mean of the classes' F1, each weighted by its true examples."""
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, average="weighted", zero_division=0))


def fit_and_measure(
    name: ClassifierName, p: NetworkParameters, seed: int, train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
) -> float:  # fmt: skip
    """Weighted F1 on `test` of a classifier trained on `train`; scikit-learn's see pictures as rows of pixels."""
    (x, y), (tested, truth) = train, test
    if name != "network":
        x, tested = x.reshape(len(x), -1), tested.reshape(len(tested), -1)
    return weighted_f1(truth, build_classifier(name, p, seed).fit(x, y).predict(tested))
