"""The data sets of the zoo: shapes, fixed and disjoint splits, and answers that are right."""

import re
import zlib
from datetime import date

import numpy as np
import pytest

from models.data.dates import (
    FORMATS,
    MONTHS,
    SOURCE_LENGTH,
    SOURCE_VOCABULARY,
    START,
    TARGET_VOCABULARY,
    WEEKDAYS,
    decode_source,
    decode_target,
    encode_source,
    load_dates,
    write_date,
)
from models.data.digits import NUM_CLASSES, load_digits
from models.data.modular import load_modular
from models.data.sorting import load_sorting
from models.data.splits import cut, shuffled_indices, split_indices
from models.data.tables import diabetes_scale, load_cancer, load_diabetes, load_wine
from models.data.text import OTHER, VOCABULARY, decode, encode, load_text, text_parts

# loader: sizes of the parts (None where they depend on Python), shape of an input, shape of a target, target dtype
LOADERS = {
    load_digits: ((1079, 359, 359), (8, 8), (), np.int32),
    load_cancer: ((343, 113, 113), (30,), (), np.int32),
    load_wine: ((106, 36, 36), (13,), (), np.int32),
    load_diabetes: ((266, 88, 88), (10,), (), np.float32),
    load_dates: ((6000, 1000, 1000), {"source": (SOURCE_LENGTH,), "previous": (10,)}, (10,), np.int32),
    load_sorting: ((3600, 1200, 1200), {"source": (10,), "previous": (10,)}, (10,), np.int32),
    load_modular: ((673, 144, 144), (3,), (), np.int32),
    load_text: (None, (64,), (64,), np.int32),
}
INTEGER_INPUTS = (load_dates, load_sorting, load_modular, load_text)
GOLDEN = {load_dates: 1598692993, load_sorting: 3338883054, load_modular: 1315223450}
all_loaders = pytest.mark.parametrize("load", LOADERS, ids=lambda load: load.__name__)


def arrays(split):
    inputs = split.inputs.values() if isinstance(split.inputs, dict) else [split.inputs]
    return [*inputs, split.targets]


def checksum(dataset):
    total = 0
    for array in (array for split in dataset for array in arrays(split)):
        total = zlib.crc32(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes(), total)
    return total


@all_loaders
def test_shapes_and_dtypes(load):
    sizes, inputs, targets, dtype = LOADERS[load]
    dataset = load()
    if sizes is not None:
        assert tuple(len(split.targets) for split in dataset) == sizes
    for split in dataset:
        n = len(split.targets)
        if isinstance(inputs, dict):
            assert {name: array.shape for name, array in split.inputs.items()} == {
                k: (n, *v) for k, v in inputs.items()
            }
        else:
            assert split.inputs.shape == (n, *inputs)
        assert split.targets.shape == (n, *targets) and split.targets.dtype == dtype
        expected = np.int32 if load in INTEGER_INPUTS else np.float32
        assert all(array.dtype == expected for array in arrays(split)[:-1])


@all_loaders
def test_arrays_are_shared_and_read_only(load):
    assert load() is load()
    for array in (array for split in load() for array in arrays(split)):
        assert not array.flags.writeable
        with pytest.raises(ValueError):
            array[:1] = 0


@pytest.mark.long
@all_loaders
def test_loaders_are_deterministic(load):
    assert checksum(load.__wrapped__()) == checksum(load())


@pytest.mark.parametrize("load", GOLDEN, ids=lambda load: load.__name__)
def test_generated_data_are_frozen(load):
    assert checksum(load()) == GOLDEN[load]


@pytest.mark.parametrize("load", [load_digits, load_dates, load_sorting, load_modular], ids=lambda load: load.__name__)
def test_no_input_is_in_two_parts(load):
    parts = [arrays(split)[0] for split in load()]
    rows = [{row.tobytes() for row in part} for part in parts]
    assert sum(map(len, rows)) == sum(map(len, parts)) == len(set.union(*rows))


def test_stratified_split():
    labels = np.repeat(np.arange(3), (50, 100, 20))
    parts = split_indices(labels)
    assert sorted(np.concatenate(parts).tolist()) == list(range(170))
    counts = [np.bincount(labels[part]).tolist() for part in parts]
    assert counts == [[30, 60, 12], [10, 20, 4], [10, 20, 4]]
    assert any((one != other).any() for one, other in zip(parts, split_indices(labels, seed=1), strict=True))


def test_shuffled_split():
    parts = shuffled_indices(101, seed=3, validation=0.1, test=0.3)
    assert sorted(np.concatenate(parts).tolist()) == list(range(101))
    assert [len(part) for part in parts] == [61, 10, 30]
    assert parts[2].tolist() != list(range(30))
    for shares in ((-0.1, 0.2), (0.5, 0.5)):
        with pytest.raises(ValueError, match="shares"):
            shuffled_indices(10, 0, *shares)


def test_cut_copies():
    inputs, targets = {"x": np.arange(4)}, np.arange(4) * 2
    dataset = cut(inputs, targets, (np.array([0, 3]), np.array([1]), np.array([2])))
    assert dataset.train.inputs["x"].tolist() == [0, 3] and dataset.test.targets.tolist() == [4]
    assert targets.flags.writeable and inputs["x"].flags.writeable


def test_digits_split_is_fixed_and_stratified():
    """Golden values: a change of the split changes every published number."""
    from sklearn import datasets

    labels = datasets.load_digits(return_X_y=True)[1]
    parts = split_indices(labels)
    golden = [[0, 1, 2, 4, 6], [5, 9, 14, 16, 18], [3, 7, 13, 19, 36]]
    assert [part[:5].tolist() for part in parts] == golden
    counts = np.stack([np.bincount(split.targets, minlength=NUM_CLASSES) for split in load_digits()])
    np.testing.assert_allclose(counts / counts.sum(axis=0), np.full((10, 3), [0.6, 0.2, 0.2]).T, atol=0.006)
    for split, part in zip(load_digits(), parts, strict=True):
        np.testing.assert_array_equal(split.targets, labels[part])


@pytest.mark.parametrize("load", [load_digits, load_cancer, load_wine, load_diabetes], ids=lambda load: load.__name__)
def test_inputs_are_standardised_by_the_train_part(load):
    axis = None if load is load_digits else 0
    inputs = load().train.inputs.astype(np.float64)
    np.testing.assert_allclose(inputs.mean(axis=axis), 0, atol=1e-6)
    np.testing.assert_allclose(inputs.std(axis=axis), 1, atol=1e-6)


def test_diabetes_targets_scale_back():
    from sklearn import datasets

    mean, std = diabetes_scale()
    targets = np.concatenate([split.targets for split in load_diabetes()])
    original = datasets.load_diabetes(return_X_y=True)[1]
    np.testing.assert_allclose(np.sort(mean + std * targets), np.sort(original), rtol=1e-5)
    np.testing.assert_allclose(load_diabetes().train.targets.mean(), 0, atol=1e-6)
    np.testing.assert_allclose(load_diabetes().train.targets.std(), 1, atol=1e-6)


def read_date(text):
    """Reads a date by other means than those that wrote it: from its numbers, its month and its separators."""
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    if "/" in text:
        month, day, year = numbers
    elif "." in text:
        day, month, year = numbers
    else:
        month = 1 + next(i for i, name in enumerate(MONTHS) if re.search(rf"\b{name[:3]}", text))
        year, day = (numbers[1], numbers[0]) if numbers[0] < 1000 else numbers
    if year < 100:
        year += 1900 if year >= 50 else 2000
    return date(year, month, day)


def test_dates_are_right():
    for split in load_dates():
        for source, target, previous in zip(*arrays(split)[:1], split.targets, split.inputs["previous"], strict=True):
            text = decode_source(source)
            day = read_date(text)
            assert decode_target(target) == day.isoformat()
            weekday = next(
                (name for name in WEEKDAYS if re.match(rf"({name}|{name[:3]}) ", text.replace(",", ""))), None
            )
            assert weekday in (None, WEEKDAYS[day.weekday()])
            assert previous[0] == START and (previous[1:] == target[:-1]).all()


def test_days_are_in_one_part_and_formats_in_all():
    parts = [{decode_target(target) for target in split.targets} for split in load_dates()]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 8000
    for split in load_dates():
        shapes = {re.sub(r"\d+", "0", re.sub("[a-z]+", "a", decode_source(row))) for row in split.inputs["source"]}
        assert len(shapes) == len(FORMATS)


def test_tokens_of_dates_are_in_range():
    for split in load_dates():
        source, previous, target = arrays(split)
        assert source.min() == 0 and source.max() < SOURCE_VOCABULARY
        assert target.min() == 1 and target.max() < TARGET_VOCABULARY and previous.min() == START
        padded = source == 0
        assert (padded[:, :-1] <= padded[:, 1:]).all()  # only at the end


@pytest.mark.long
@pytest.mark.parametrize("form", range(len(FORMATS)))
def test_every_format_fits_and_determines_the_day(form):
    days = [date.fromordinal(o) for o in range(date(1950, 1, 1).toordinal(), date(2050, 1, 1).toordinal(), 7)]
    for day in (*days, date(1950, 1, 1), date(2049, 12, 31), date(2000, 2, 29)):
        text = write_date(day, form)
        assert decode_source(encode_source(text)) == text
        assert read_date(text) == day


def test_written_dates():
    day = date(2023, 1, 22)
    assert [write_date(day, form) for form in range(len(FORMATS))] == [
        "sunday, 22 january 2023",
        "sun 22 jan 2023",
        "jan 22, 2023",
        "january 22nd, 2023",
        "22nd of january 2023",
        "the 22nd day of january, 2023",
        "2023, january 22",
        "22-jan-23",
        "22.01.2023",
        "01/22/2023",
    ]
    endings = [write_date(date(2023, 1, d), 4).split()[0] for d in (1, 2, 3, 4, 11, 12, 13, 21, 30, 31)]
    assert endings == ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "30th", "31st"]


def test_own_sentences():
    np.testing.assert_array_equal(encode_source("Jan 5, 2023"), encode_source("jan 5, 2023"))
    assert decode_source(encode_source("")) == "" and decode_target([START, 1, 11]) == "?0-"
    with pytest.raises(ValueError, match="vocabulary"):
        encode_source("5 January 2023!")
    with pytest.raises(ValueError, match="at most"):
        encode_source("a" * (SOURCE_LENGTH + 1))


@pytest.mark.parametrize("num_examples", [7, 36526])
def test_number_of_dates_is_bounded(num_examples):
    with pytest.raises(ValueError, match="num_examples"):
        load_dates(num_examples)


def test_sorting_is_right():
    for split in load_sorting():
        source, previous, target = arrays(split)
        assert source.min() == 1 and source.max() == 16
        assert target.tolist() == [sorted(row) for row in source.tolist()]
        assert (previous[:, 0] == 0).all() and (previous[:, 1:] == target[:, :-1]).all()


def test_small_sorting_tasks_have_no_duplicates():
    rows = np.concatenate([split.inputs["source"] for split in load_sorting(4, 3, 40)])
    assert len(np.unique(rows, axis=0)) == len(rows) == 40
    for arguments in ((4, 3, 41), (0, 3, 1), (4, 0, 1), (4, 3, 0)):
        with pytest.raises(ValueError):
            load_sorting(*arguments)


@pytest.mark.parametrize("modulus", [3, 31, 97])
def test_modular_sums_are_right(modulus):
    dataset = load_modular(modulus)
    for split in dataset:
        assert len(split.targets) > 0 and (split.inputs[:, 2] == modulus).all()
        assert [(int(a) + int(b)) % modulus for a, b, _ in split.inputs] == split.targets.tolist()
    pairs = np.concatenate([split.inputs[:, :2] for split in dataset])
    assert len(np.unique(pairs, axis=0)) == modulus**2 and pairs.min() == 0 and pairs.max() == modulus - 1


def test_modulus_is_checked():
    with pytest.raises(ValueError, match="modulus"):
        load_modular(2)


def test_text_has_the_promised_form():
    parts = text_parts()
    shares = np.array([len(part) for part in parts]) / sum(map(len, parts))
    assert 0.78 < shares[0] < 0.9 and 0.05 < min(shares[1:]) and max(shares[1:]) < 0.11
    for part in parts:
        assert set(part) <= set(VOCABULARY)
        assert "  " not in part and "\n\n" not in part
        assert part.count(OTHER) < 1e-3 * len(part)


def test_text_parts_do_not_overlap():
    """Long passages of one part are in no other, though the topics quote each other."""
    train, validation, test = ({part[i : i + 160] for i in range(len(part) - 160)} for part in text_parts())
    assert not train & validation and not train & test and not validation & test


def test_text_tokens():
    assert len(set(VOCABULARY)) == len(VOCABULARY) == 97
    assert decode(encode(VOCABULARY)) == VOCABULARY
    assert encode("\n é").tolist() == [0, 1, 96] and encode("").shape == (0,) and encode("a").dtype == np.int32
    part = text_parts()[2]
    assert decode(encode(part)) == part


def test_text_windows_are_consecutive():
    for split, part in zip(load_text(50), text_parts(), strict=True):
        assert len(split.targets) == (len(part) - 1) // 50
        assert decode(split.inputs.ravel()) == part[: split.inputs.size]
        assert decode(split.targets.ravel()) == part[1 : split.targets.size + 1]


@pytest.mark.parametrize("context", [0, 10**6])
def test_text_context_is_checked(context):
    with pytest.raises(ValueError, match="context"):
        load_text(context)
