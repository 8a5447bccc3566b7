"""What a page is told of every finished window."""

from magic141.model_patches.window.cards import Place, window_cards
from magic141.model_patches.window.directions import read_directions
from magic141.tests.unit.window.test_run import make_one, open_run

__all__ = ["open_run"]  # a fixture


def test_a_finished_window_is_told_whole(open_run):
    run = open_run()
    run.directions = read_directions("[window 2] end castle.png")
    made = [make_one(run) for _ in range(2)]
    first, second = window_cards(run, Place("runs/a", 8.0, num_before=8))
    assert [second[name] for name in ("index", "start_s", "end_s", "prompt")] == [
        1,
        1 + 13 / 8,
        1 + 21 / 8,
        "b",
    ]
    assert second["seed"] == str(run.windows[1].seed)
    assert (first["end"], second["end"]) == ("", "castle.png")
    assert second["measures"] == {name: round(value, 5) for name, value in made[1].measures.items()}
    assert second["file"] == {"filename": "0001.mkv", "subfolder": "runs/a/segments", "type": "output"}
    files = [run.store.folder / name for name in ("segments/0001.mkv", "windows/0001.safetensors")]
    assert second["bytes"] == sum(len(file.read_bytes()) for file in files)
    assert second["attempts"] == 1
    assert second["seconds"] >= 0
    assert not second["kept"]
    assert (second["start_difference"], second["takes"]) == (None, [])
    assert window_cards(run, Place("runs/a", 8.0, num_before=8), first=1) == [second]


def test_windows_of_an_earlier_run_are_told_as_kept(open_run):
    run = open_run()
    make_one(run)
    run.store.__exit__(None)
    run = open_run()
    make_one(run)
    assert [card["kept"] for card in window_cards(run, Place("", 24.0))] == [True, False]
