"""Names people type: the same rules for all of them, those of Windows included."""

import pytest
from magic141.model_patches.store.names import MAX_BYTES, name_fault, path_fault


@pytest.mark.parametrize(
    "name",
    [
        "my run",
        "雪の日 2",
        "a",
        "x" * MAX_BYTES,
        "雪" * (MAX_BYTES // 3),
        "console",
        "com10",
        "v1.5",
        "a-b_c (2)",
    ],
)
def test_good_names_are_taken(name):
    assert name_fault(name, "a run") is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        (" \t", "empty"),
        (".", "begins with a dot"),
        ("..", "begins with a dot"),
        (".hidden", "begins with a dot"),
        ("a/b", "/ cannot"),
        ("a\\b", r"\\ cannot"),
        ("c:d", ": cannot"),
        ('<>:"|?*', r'" \* : < > \? \| cannot'),
        ("a\nb", "cannot be printed"),
        ("a\0b", "cannot be printed"),
        ("a\x7fb", "cannot be printed"),
        ("a\u202eb", "cannot be printed"),
        ("a\ud800b", "cannot be printed"),
        ("x" * (MAX_BYTES + 1), "201 bytes"),
        ("雪" * 90, "270 bytes"),
        ("end.", "ends with a dot"),
        ("end ", "with a space"),
        (" start", "with a space"),
        ("nul", "Windows"),
        ("CON", "Windows"),
        ("Aux.mp4", "Windows"),
        ("com1", "Windows"),
        ("LPT9.tar.gz", "Windows"),
        ("COM²", "Windows"),
        ("con .txt", "Windows"),
    ],
)
def test_bad_names_are_refused_with_the_reason(name, reason):
    with pytest.raises(ValueError, match=f"cannot be the name of a run: .*{reason}"):
        raise ValueError(name_fault(name, "a run"))
    assert name_fault(name, "a run").isprintable()


def test_names_may_lie_in_subfolders_where_a_path_is_asked_for():
    assert path_fault("mine/small.safetensors", "a file") is None
    for name in ("/a", "a/", "a//b", "../a", "a/../b", "a/nul/b", "a\\b", "C:/a"):
        assert path_fault(name, "a file"), name
