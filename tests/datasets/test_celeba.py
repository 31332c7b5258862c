import pytest
from PIL import Image

from thesis_lib.datasets.celeba import read_celeba
from thesis_lib.errors import ThesisError


def test_faces_are_read_from_all_folders_in_order(tmp_path):
    for folder, name, grey in (("b", "1.png", 200), ("a", "2.png", 50)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (20, 30), (grey,) * 3).save(tmp_path / folder / name)
    faces = read_celeba(tmp_path, 16)
    assert faces.shape == (2, 3, 16, 16) and faces[0].unique().tolist() == [50]
    (tmp_path / "a" / "3.jpg").write_bytes(b"no picture")
    with pytest.raises(ThesisError, match=r"3.jpg is broken"):
        read_celeba(tmp_path)
    with pytest.raises(ThesisError, match="has no pictures"):
        read_celeba(tmp_path / "nowhere")
