"""Hugging Face data sets: tables as frames, images and arrays as rows, streams sample by sample."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vaelab import ConditionalVAE, GaussianVAE
from vaelab.data import gather
from vaelab.errors import InputError

datasets = pytest.importorskip("datasets")

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 4, 5), dtype=np.uint8)
Y = np.arange(30) % 2
NAMES = np.array(["cat", "dog"])[Y]
BRIEF = {"latent_dim": 2, "network": "mlp([8])", "epochs": 2, "random_state": 0}


@pytest.fixture
def images():
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    content = {"image": [Image.fromarray(each) for each in PIXELS], "label": Y.tolist()}
    return datasets.Dataset.from_dict(content, features=features)


def test_images_and_the_names_of_their_classes(images, tmp_path):
    x, y = gather(images, y=True)
    np.testing.assert_array_equal(x, PIXELS[:, None])
    assert y.tolist() == NAMES.tolist()
    images.save_to_disk(tmp_path)
    np.testing.assert_array_equal(gather(datasets.load_from_disk(tmp_path))[0], x)
    chosen = images.shuffle(seed=1).select(range(10))
    np.testing.assert_array_equal(gather(chosen)[0][:, 0], np.stack([np.asarray(each) for each in chosen["image"]]))


def test_images_that_differ_in_size_are_refused(images):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[0, :2]).save(buffer, "png")
    content = {"image": [*images["image"][:5], Image.open(buffer)], "label": [0] * 6}
    uneven = datasets.Dataset.from_dict(content, features=images.features)
    with pytest.raises(InputError, match="6 images of 2 sizes"):
        gather(uneven)


def test_a_stream_is_read_sample_by_sample(images):
    x, y = gather(images.to_iterable_dataset(), rows=12, y="label")
    np.testing.assert_array_equal(x, PIXELS[:12, None])
    assert y.tolist() == NAMES[:12].tolist()
    numbers = datasets.Dataset.from_dict({"a": [1.0, 2.0, 4.0], "b": [3, 4, 5], "label": [0, 1, 1]})
    np.testing.assert_array_equal(gather(numbers.to_iterable_dataset(), y=True)[0], [[1, 3], [2, 4], [4, 5]])
    with pytest.raises(InputError, match="a Hugging Face stream of unknown length"):
        GaussianVAE(**BRIEF).fit(images.to_iterable_dataset())


def test_columns_of_arrays(images):
    vectors = datasets.Dataset.from_dict({"embedding": PIXELS[:, 0].astype(float).tolist(), "label": Y.tolist()})
    x, y = gather(vectors, y="label")
    np.testing.assert_array_equal(x, PIXELS[:, 0])
    np.testing.assert_array_equal(y, Y)
    two = vectors.add_column("other", PIXELS[:, 1].astype(float).tolist())
    with pytest.raises(InputError, match="'embedding', 'other', of which 'embedding' may be the row"):
        gather(two)
    np.testing.assert_array_equal(gather(two, key="other")[0], PIXELS[:, 1])
    beside = vectors.add_column("age", list(range(30)))
    with pytest.raises(InputError, match="'embedding', 'age', of which"):
        gather(beside)
    with pytest.raises(InputError, match="key='none'; wanted one of embedding"):
        gather(two, key="none")
    with pytest.raises(InputError, match="rows differ in length"):
        gather(datasets.Dataset.from_dict({"embedding": [[1.0], [1.0, 2.0]]}))


def test_a_table_is_the_frame_of_its_columns():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=list("ab")).assign(kind=["u", "v"] * 30)
    table = datasets.Dataset.from_pandas(frame)
    ours, theirs = (GaussianVAE(**BRIEF).fit(each) for each in (frame, table))
    drawn = theirs.sample(5)
    pd.testing.assert_frame_equal(ours.sample(5), drawn)
    assert drawn["kind"].isin(["u", "v"]).all()
    conditional = ConditionalVAE(**BRIEF).fit(table, "kind")
    expected = ConditionalVAE(**BRIEF).fit(frame[["a", "b"]], frame["kind"])
    np.testing.assert_array_equal(
        conditional.transform(table, "kind"), expected.transform(frame[["a", "b"]], frame["kind"])
    )


def test_a_transform_of_its_own_is_applied(images):
    def doubled(batch):
        return {"pixels": [2.0 * np.asarray(image) for image in batch["image"]], "label": batch["label"]}

    x, y = gather(images.with_transform(doubled), key="pixels", y=True)
    np.testing.assert_array_equal(x, 2.0 * PIXELS)
    assert y.tolist() == NAMES.tolist()
    with pytest.raises(InputError, match="key='image'; wanted one of 'pixels', 'label'"):
        gather(images.with_transform(doubled), key="image")


@pytest.mark.parametrize("bad", [-1, None])
@pytest.mark.parametrize("stream", [False, True])
def test_rows_without_a_class_are_counted(bad, stream):
    features = datasets.Features({"a": datasets.Value("float64"), "label": datasets.ClassLabel(names=["cat", "dog"])})
    table = datasets.Dataset.from_dict({"a": [1.0, 2.0, 3.0], "label": [0, bad, 1]}, features=features)
    with pytest.raises(InputError, match=r"1 missing label\(s\) in 'label' of X"):
        gather(table.to_iterable_dataset() if stream else table, y=True)


def test_a_table_is_cut_or_refused_as_rows_are(tmp_path):
    table = datasets.Dataset.from_dict({"a": [1.0, 2.0, 3.0]})
    assert len(gather(table, rows=2)[0]) == 2
    with pytest.raises(InputError, match="ends after 3 rows; wanted the 4"):
        gather(table, rows=4)
    for options in ({"path": tmp_path / "x.npy"}, {"memory_map": True}):
        with pytest.raises(InputError, match="a table, for a file of rows"):
            gather(table, **options)


def test_several_splits_are_refused(images):
    with pytest.raises(InputError, match=r"splits train, test; .*X\['train'\]"):
        GaussianVAE(**BRIEF).fit(datasets.DatasetDict(train=images, test=images))
