"""Typical mistakes of the first hour: each is answered in one line that says what to do."""

import io
import json
import re
import shlex
import sys
from base64 import b64decode

import pytest
from PIL import Image

import videoclip
from tests.library.colours import ColourEmbedder, write_video
from videoclip import VideoLibrary
from videoclip.cli import main
from videoclip.embedding import Embedder
from videoclip.errors import VideoCLIPError
from videoclip.output import player

FOUND = {"path": "v/a.mp4", "start": 0.0, "end": 2.0, "label": "red", "confidence": "high"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two videos with a library, and what people confuse with them."""
    folder = tmp_path_factory.mktemp("hour")
    write_video(folder / "v" / "a.mp4", ["red"] * 10 + ["blue"] * 12)
    write_video(folder / "v" / "b.mp4", ["black"] * 10 + ["yellow"] * 5, frame_rate=10)
    for name in ("empty", "pictures"):
        (folder / name).mkdir()
    Image.new("RGB", (64, 64), "red").save(folder / "pictures" / "a.jpg")
    for name in ("notes.txt", "fake.mp4", "model.bin"):
        (folder / name).write_text("red\nblue\n")
    (folder / "empty.txt").touch()
    for name in ("run/config.json", "run/log.jsonl", "run/model/config.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    for name in ("store/store.json", "world/world.json"):
        (folder / name).parent.mkdir()
        (folder / name).write_text("{}")
    (folder / "moments.csv").write_text("path,start,end\nv/a.mp4,0,1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Embedder, "from_pretrained", lambda *_: ColourEmbedder("starter"))
        patch.chdir(folder)
        assert main(["index", "v", "--model", "starter", "--workers", "0"]) == 0
    return folder


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Return a function that runs a command line, perhaps with standard input."""
    monkeypatch.chdir(folder)
    real = Embedder.from_pretrained

    def from_pretrained(model, device="auto"):
        return ColourEmbedder(model) if model == "starter" else real(model, device)

    monkeypatch.setattr(Embedder, "from_pretrained", from_pretrained)
    for module in ("videoclip.cli.models", "videoclip.pretrained.known"):
        monkeypatch.setattr(f"{module}.default_model", lambda: "starter")

    def run_line(line, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capsys.readouterr()
        try:
            status = main(shlex.split(line))
        except SystemExit as ended:
            status = ended.code
        return status, *capsys.readouterr()

    return run_line


MISTAKES = """
2 | serch red                                  | perhaps you meant 'search'
2 | find red                                   | perhaps you meant 'search'
2 | train v                                    | perhaps you meant 'pretrain'
2 | Search red                                 | perhaps you meant 'search'
2 | ls                                         | perhaps you meant 'info'
2 | v/a.mp4                                    | a command comes first, before 'v/a.mp4'
2 | play red                                   | known: demo, synth, prepare
2 | --verson                                   | perhaps you meant '--version'
2 | help serch                                 | perhaps you meant 'search'
2 | search                                     | give one of: a query in words, --like FILE
2 | search ''                                  | give one of: a query in words, --like FILE
2 | search red --queries notes.txt             | give one of: a query in words
2 | search red -k many                         | --top-k: expected a whole number, got 'many'
2 | search red -k 2.5                          | --top-k: expected a whole number, got '2.5'
2 | search red -k -5                           | top_k must be positive
2 | search red --top 5                         | perhaps you meant '--top-k'
2 | search red --limit 5                       | perhaps you meant '--top-k'
2 | search red -n 5                            | perhaps you meant '--top-k'
2 | search red --libary library                | perhaps you meant '--library'
2 | search red --top_q 5                       | perhaps you meant '--top-k'
2 | search red --library                       | --library LIBRARY: its value is missing
2 | search red --json --csv                    | choose one of --json, --csv
2 | search red --json=true                     | --json takes no value
2 | search red --min-confidence hihg           | perhaps you meant 'high'
2 | search red --vision 0 --speech 0           | not both 0
1 | search red --where 'duration > abc'        | expected a number or a text in quotes
1 | search red --where 'lenght > 3'            | unknown name 'lenght'
1 | search red --where duration                | expected a comparison such as =
1 | search red --library nowhere               | make one with `videoclip index`
1 | search red --library v                     | make one with `videoclip index`
1 | search red --library notes.txt             | make one with `videoclip index`
1 | search red --model small                   | `videoclip pretrain small` trains one
1 | search red --model model.bin               | is a file; name the model's folder
1 | search red --model ./nowhere/model         | there is no model folder nowhere/model; name one
1 | search --queries nowhere.txt               | it holds queries, one per line
1 | search --queries empty.txt                 | write one per line
1 | search --like nowhere.jpg                  | nowhere.jpg: no such file
1 | search --like notes.txt                    | notes.txt: not a video, or damaged
2 | index                                      | name at least one VIDEO
1 | index empty                                | name one that holds files such as .mp4
1 | index pictures                             | name one that holds files such as .mp4
1 | index nowhere                              | nowhere: no such file
1 | index notes.txt                            | notes.txt: not a video, or damaged
1 | index fake.mp4                             | fake.mp4: not a video, or damaged
1 | index https://example.org/a.mp4            | download the video first
1 | index 'C:\\Users\\me\\Videos'              | a path of Windows; in WSL
1 | index '~/Videos'                           | leave out the quotes
1 | index 'v/*.mkv'                            | no name fits this pattern
2 | segment v/my video.mp4 --label red         | put names with spaces in quotes
1 | index v L --library library                | L: no such file
2 | index v --workers many                     | --workers: expected a whole number
2 | index v --workers -1                       | workers must not be negative
2 | index v --model                            | --model MODEL: its value is missing
1 | segment v --label red                      | v: a folder; name one video file
1 | segment v/a.mp4                            | give each label as --label TEXT
2 | segment v/a.mp4 red blue                   | give each label as --label TEXT
2 | segment v/a.mp4 --label red blue           | give each label as --label TEXT
1 | segment v/a.mp4 --labels red,blue          | give each label as --label TEXT
1 | segment 'v/a movie.mp4' --label red        | v/a movie.mp4: no such file
2 | segment v/a.mp4 --label red --threshold high | --threshold: expected a number, got 'high'
2 | segment --label red                        | VIDEO must be given
1 | localize v --step red                      | v: a folder; name one video file
1 | localize v/a.mp4 --steps red               | give each step as --step TEXT
2 | ask v/a.mp4 'what colour'                  | --choices ANSWER [ANSWER ...] must be given
2 | ask v/a.mp4 'what colour' --choices red    | at least two choices
1 | ask 'what colour' v/a.mp4 --choices red blue | what colour: no such file
1 | cut v/a.mp4                                | give --start and --end, such as 0:08
1 | cut v                                      | is a folder; name one video
2 | cut v/a.mp4 --start 8                      | give both --start and --end
2 | cut v/a.mp4 --start 9 --end 5              | --start must be before --end
2 | cut v/a.mp4 --start 1m --end 2m            | expected a time such as 8.5, 0:08
2 | cut v/a.mp4 --start -3 --end 5             | start must not be negative
2 | cut v/a.mp4 1 2                            | give times as --start 0:08
1 | cut v/a.mp4 --start 500 --end 600          | ends at 22 s, before 500 s
1 | cut v/a.mp4 --start 1 --end 2 --out a.xyz  | try .mp4 or .mkv
1 | cut nowhere.mp4 --start 1 --end 2          | nowhere.mp4: no such file
1 | cut -                                      | standard input: is empty; print moments with
1 | cut - < {}                                 | expected moments as `videoclip search --json`
1 | cut - < []                                 | no moments to cut
1 | export -                                   | standard input: is empty; print moments with
1 | export - < hello                           | print moments with `videoclip search --json`
1 | export - < []                              | no moments to export; search for something else
1 | export moments.csv                         | print moments with `videoclip search --json`
1 | export nowhere.json                        | nowhere.json: cannot be read
1 | export v/a.mp4                             | v/a.mp4: is not text
2 | export                                     | MOMENTS must be given
2 | export - --format edll                     | perhaps you meant 'edl'
2 | export - --format xlsx                     | one of csv, json, edl
2 | pretrain --data v                          | the recipe comes first: videoclip pretrain RECIPE
2 | pretrain --data v small                    | the recipe comes first: videoclip pretrain small
2 | pretrain v                                 | known: paper, base, small
2 | pretrain smal --data v --out run           | perhaps you meant 'small'
2 | pretrain small --data v                    | --out RUN must be given
1 | pretrain small --data nowhere --out run    | nowhere: no such file
2 | pretrain small --data v --out run --lr 1   | perhaps you meant '--optim.lr'
2 | finetune v                                 | known: youcook2, msrvtt
2 | evaluate                                   | BENCHMARK and --features FOLDER and
2 | evaluate msrvt --features f --annotations x | perhaps you meant 'msrvtt'
1 | evaluate csv --features f --annotations x  | f: there is no feature store
2 | extract v                                  | --features FOLDER must be given
1 | extract v --features f --backbone resnet   | known: image, motion, s3d, starter
1 | prepare empty                              | name one that holds files such as .mp4
2 | compare run                                | name at least two runs
1 | compare run other                          | is neither a run folder nor a result
1 | info nowhere                               | nowhere: no such file or folder
1 | info v                                     | run videoclip extract or videoclip index first
1 | info small                                 | a recipe; `videoclip pretrain small
1 | convert nowhere out                        | name what is to be converted
1 | convert notes.txt out                      | not a PyTorch checkpoint
2 | synth w --num-videos many                  | --num-videos: expected a whole number
2 | demo quick                                 | perhaps you meant '--quick'
1 | demo --videos nowhere                      | nowhere: no such file
1 | demo --videos empty                        | name one that holds files such as .mp4
2 | search --query red                         | '--query'; write the words without an option
2 | search -q red                              | '-q'; write the words without an option
2 | search --text=red                          | write the words without an option
2 | search red --in library                    | perhaps you meant '--library'
2 | search red --video v/a.mp4                 | perhaps you meant '--where'
2 | search red --library=                      | --library: its value is missing
2 | search red --open -1                       | open must not be negative
2 | search red -k 1e3                          | --top-k: expected a whole number, got '1e3'
2 | search red --html                          | --html FILE: its value is missing
1 | search red --html v                        | v: cannot be written (Is a directory)
1 | search red --thumbnails notes.txt          | notes.txt: is a file, where a folder is needed
1 | search red --where 'path = a.mp4'          | expected a number or a text in quotes
1 | search red --where 'duration > 5 &&'       | character 13: cannot read this
2 | search --fit moments.csv --where 'duration > 5' | --fit does not search: omit --where
2 | search --fit moments.csv --json            | --fit does not search: omit --json
2 | search --fit moments.csv -k 3              | --fit does not search: omit --top-k
2 | search --fit moments.csv --open            | --fit does not search: omit --open
2 | search --undo-fit --speech 0               | --undo-fit does not search: omit --speech
2 | search --undo-fit red                      | give one of: a query in words
1 | search --fit moments.csv                   | no column 'query' or 'video' in the header
1 | search --like v                            | v: a folder; name one video file
2 | search --like v/a.mp4 red                  | give one of: a query in words, --like FILE
1 | index v --library notes.txt                | notes.txt: is a file, where a folder is needed
1 | index v --metadata notes.txt               | no column names the video: add one of path
2 | index -r v                                 | '-r'; folders are read with their subfolders
2 | index v --recursive                        | folders are read with their subfolders
1 | segment v/a.mp4                            | no texts; give each label as --label TEXT
2 | segment v/a.mp4 --label ''                 | empty (after --label): is a variable of the shell
2 | segment v/a.mp4 --label red --label ' '    | empty (after --label): is a variable of the shell
2 | localize v/a.mp4 --step red --step ''      | empty (after --step): is a variable of the shell
2 | serve --library library --allow-host ''    | empty (after --allow-host): is a variable of
2 | ask v/a.mp4 what --choices red ''          | an argument is empty: is a variable of the shell
2 | search red --where ''                      | an argument is empty (after --where): is a variable
2 | search red --where ' '                     | an argument is empty (after --where): is a variable
2 | segment v/a.mp4 v/b.mp4 --label red        | 'v/b.mp4'; name one file at a time
2 | segment v/a.mp4 --step red                 | perhaps you meant '--label'
2 | localize v/a.mp4 --label red               | perhaps you meant '--step'
2 | localize v/a.mp4 --step red --ordered      | steps are in order unless --any-order
2 | ask v/a.mp4 --question what --choices a b  | write the question after the video
2 | ask v/a.mp4 what --choices red,blue        | separated by spaces: --choices red blue
2 | cut v/a.mp4 --start 0:01 --end 0:99        | minutes and seconds end at 59: '0:99'
2 | cut v/a.mp4 --start 1 --duration 2         | give the end of the span with --end
2 | cut v/a.mp4 0:01-0:02                      | give times as --start 0:08
1 | cut v/a.mp4 --start 1 --end 2 --out v/a.mp4 | v/a.mp4: already exists; choose another file
1 | cut v/a.mp4 --start 1 --end 2 --out v/b.mp4 | v/b.mp4: already exists; choose another file
2 | export - --format srt                      | one of csv, json, edl, fcpxml, vtt, youtube
2 | serve --mcp --allow-upload                 | --mcp does not use the network: omit --allow-upload
2 | serve --mcp --port 9                       | --mcp does not use the network: omit --port
2 | serve --port 80a                           | --port: expected a whole number, got '80a'
2 | pretrain starter --data v --out r --batch-size 4 | you meant '--plan.videos-per-batch'
2 | compare a.csv b.csv c.csv                  | CSV files are compared two at a time
1 | compare a.csv b.csv                        | a.csv: cannot be read as CSV (No such file
2 | evaluate csv --features f --annotations x --report y | perhaps you meant '--html'
2 | SEARCH red                                 | perhaps you meant 'search'
2 | search red --threshold 0.3                 | perhaps you meant '--min-confidence'
2 | search red --min-confidence HIGH           | perhaps you meant 'high'
1 | search red --where 'duration > 5s'         | write numbers without a unit: 5
1 | search red --where path=a.mp4              | in quotes, such as 'a.mp4'
1 | search red --where path                    | put the whole filter in quotes
2 | search red --csv found.csv                 | write > in front of it
2 | search red --json found.json               | write > in front of it
2 | search red found.html                      | write it after --html
2 | search red in v/a.mp4                      | to search one video, --where
1 | index 'v\\a.mp4'                            | folders are written with / here
1 | index D:/Videos                            | a path of Windows; in WSL
1 | index file:///home/me/Videos               | name the file without file://
1 | index v --model v                          | it has no config.json; name one such as RUN/model
2 | ask v/a.mp4 --choices red blue             | give QUESTION after VIDEO
2 | cut v/a.mp4 --start 2min --end 3min        | --start: expected a time such as 8.5
2 | cut v/a.mp4 -s 1 -e 2                      | perhaps you meant '--start'
2 | cut v/a.mp4 --ss 1 --to 2                  | perhaps you meant '--start'
1 | cut - < [{"path": "v/a.mp4", "start": 5, "end": 2}] | a start and a later end in seconds
2 | export - --format EDL                      | perhaps you meant 'edl'
1 | serve nowhere                              | nowhere: no such file
1 | serve library                              | is a library; serve it as --library library
2 | serve --port 99999                         | a port is a number from 0 to 65535
2 | pretrain small v --out run                 | --data PATH must be given; 'v' belongs to no
2 | pretrain small --data v --out run --config x | --config FILE replaces the recipe, and
2 | pretrain small --data v --out r --optim.learning_rate 1 | perhaps you meant '--optim.lr'
2 | pretrain small -d v --out r                | perhaps you meant '--data'
1 | extract v --features library               | is a library; give the feature store a folder
2 | models starter                             | `videoclip info MODEL` describes one model
2 | models --download clip                     | downloaded when --model names it
2 | demo v                                     | as --videos FOLDER
1 | compare nowhere other                      | (no such file or folder)
1 | info v --verify                            | nothing here has checksums
1 | info nowhere --verify                      | nowhere: no such file or folder
1 | index v --library store                    | is a feature store; give the library a folder
1 | index v --library run                      | is a run; give the library a folder of its own
1 | index v --library run/model                | is a model; give the library a folder of its own
1 | index v --library world                    | is a synthetic world; give the library a folder
1 | search red --model run                     | run is a run; name its model: run/model
1 | search red --html .                        | .: cannot be written (Is a directory)
2 | search red --html ''                       | an argument is empty (after --html): is a variable
1 | search --fit v                             | v: a folder; name a file
1 | search red --where 'duration > 1:30'       | write times in seconds
1 | search red --where 'duration > 1,5'        | a number has a point, as in 1.5
1 | extract v --features f --frames-per-second 1e6 | must be at most 1000, got 1e+06
1 | cut v/a.mp4 --start 1 --end 2 --out a.mp3  | '.mp3' is not a video file extension; try .mp4
2 | index ''                                   | is a variable of the shell not set?
1 | export - --video c.mp4 < [{"path": "v/a.mp4", "start": 0, "end": 2}] | unknown video 'c.mp4'
"""


@pytest.mark.parametrize("row", [row for row in MISTAKES.splitlines() if row])
def test_a_mistake_is_answered_in_one_line(row, run):
    status, line, advice = map(str.strip, row.split("|"))
    line, _, stdin = line.partition(" < ")
    found, _, err = run(line, stdin)
    assert (found, err.count("\n")) == (int(status), 1), err
    assert err.startswith("videoclip") and advice in err
    assert len(err) < 300 and not any(word in err for word in ("typing.", "<function", "Errno"))


def test_a_list_in_one_label_is_pointed_out(run):
    status, _, err = run("segment v/a.mp4 --label red,blue --model starter")
    assert status == 0 and "'red,blue' is one text; give each label as --label" in err


def test_words_need_no_quotes_and_may_surround_options(run):
    quoted = run("search 'yellow and black' --json")[1]
    assert json.loads(quoted)["query"] == "yellow and black"
    assert run("search yellow and black --json")[1] == quoted
    assert run("search yellow --library library and black --json")[1] == quoted
    assert "library" not in run("search --json yellow --library library and black")[1][:60]


def test_an_ordered_query_prints_its_parts(run):
    status, out, _ = run("search red, then blue -k 1")
    assert status == 0 and [line.split()[-1] for line in out.splitlines()[1:]] == ["red", "blue"]
    assert "0:10.0-0:22.0" in out.splitlines()[2]
    assert "parts" not in run("search red, then blue --csv")[1]
    assert run("export - --format csv", run("search red, then blue --json -k 1")[1])[0] == 0


def test_help_and_version_as_people_type_them(run):
    for line in ("help search", "search --help", "--help search"):
        status, out, err = run(line)
        assert (status, err) == (0, "") and "usage: videoclip search" in out
    for line in ("--version", "-V", "version"):
        assert run(line)[:2] == run("--version")[:2] and run(line)[0] == 0


def test_times_as_people_write_them(run, folder):
    for line in ("--start 0:01 --end 3", "--start 1s --end 00:00:03", "--start 1.0 --end 0:03.0"):
        status, out, _ = run(f"cut v/a.mp4 {line} --out {folder / 'spans'} --json")
        assert status == 0 and json.loads(out)[0]["start"] == 1 and json.loads(out)[0]["end"] == 3


def test_what_segment_and_localize_print_can_be_piped(run, folder):
    for line in ("segment v/a.mp4 --label red --label blue", "localize v/a.mp4 --step red"):
        printed = run(f"{line} --model starter --json")[1]
        status, out, err = run("export -", printed)
        assert (status, err) == (0, "") and "a.mp4,0.000,10.000,red" in out
        status, out, err = run(f"cut - --out {folder / 'piped'}", printed)
        assert (status, err) == (0, "") and "red.mp4" in out


def test_an_edit_list_of_mixed_rates_has_the_commonest_and_only_matches(run, folder):
    moments = [
        {**FOUND, "frame_rate": 25.0},
        {**FOUND, "frame_rate": 25.0, "start": 3.0, "end": 5.0},
        {**FOUND, "path": "v/b.mp4", "frame_rate": 29.97},
        {**FOUND, "label": "nothing", "confidence": "none", "frame_rate": 50.0},
    ]
    status, _, err = run("export - --format edl --out red.edl", json.dumps(moments))
    assert status == 0 and err.count("\n") == 2
    assert "left out 1 of 4 moments" in err and "took 25, the commonest" in err
    text = (folder / "red.edl").read_text()
    assert text.count("FROM CLIP NAME") == 3 and "nothing" not in text
    everything = run("export - --nearest", json.dumps(moments))
    assert everything[0] == 0 and everything[1].count("\n") == 5
    unknown = [{"path": "v/a.mp4", "start": 0, "end": 1}]
    status, _, err = run("export - --format edl --out no.edl", json.dumps(unknown))
    assert status == 1 and "choose one with --rate" in err
    assert not (folder / "no.edl").exists()
    status, _, err = run("export -", json.dumps(moments[3:]))
    assert status == 1 and "no moment matches well enough (--nearest" in err


def test_chapters_that_differ_from_the_moments_are_named(run):
    spans = [(0, 12), (15, 30), (20, 40), (60, 80), (100, 110)]
    moments = [{**FOUND, "start": a, "end": b, "label": f"at {a}"} for a, b in spans]
    status, out, err = run("export - --format youtube", json.dumps(moments))
    assert status == 0
    assert out.splitlines() == [
        "0:00 at 0", "0:15 at 15", "0:40 ...", "1:00 at 60", "1:20 ...", "1:40 at 100",
    ]  # fmt: skip
    assert "1 of 5 chapters left out" in err and "1 of 5 chapters made longer" in err


def test_a_pattern_without_a_wildcard_is_explained(run, folder):
    whole = folder / "v" / "a.mp4"
    status, out, err = run("search red --where \"path like 'a.mp4'\"")
    assert (status, out) == (0, "") and "% stands for any: --where \"path like '%x%'\"" in err
    status, out, err = run("search red --where \"path like '%a.mp4'\"")
    assert status == 0 and "a.mp4" in out and "stands for" not in err
    status, out, err = run(f"search zzz --min-confidence high --where \"path like '{whole}'\"")
    assert (status, out) == (0, "") and "no moments" in err and "stands for" not in err


def test_the_starter_has_a_description(run):
    status, out, _ = run("info starter")
    assert status == 0 and "kind     model" in out and "videoclip models" in out


def test_a_filter_by_the_printed_path_is_explained(run, folder):
    status, out, err = run("search red --where \"path = 'v/a.mp4'\"")
    assert (status, out) == (0, "") and "paths of a library are absolute" in err
    status, out, err = run(f"search red --where \"path = '{folder / 'v' / 'a.mp4'}'\"")
    assert status == 0 and "a.mp4" in out and "absolute" not in err


@pytest.mark.parametrize("videos", ["nowhere", "empty", "notes.txt"])
def test_an_index_that_failed_leaves_no_library(videos, run, folder):
    assert run(f"index {videos} --library new --model starter")[0] == 1
    assert not (folder / "new").exists()
    status, out, err = run("search red --library new")
    assert (status, out) == (1, "") and "make one with `videoclip index`" in err


def test_search_writes_a_page_whose_moments_play(run, folder):
    status, _, err = run("search red --html page.html -k 2")
    page = (folder / "page.html").read_text()
    assert status == 0 and "page.html written" in err
    assert page.count("<video ") == 2 and 'src="v/a.mp4#t=0.000,10.000"' in page
    assert page.count('poster="data:image/jpeg;base64,') == 2 and "“red”" in page


def test_a_moment_opens_in_the_player_of_the_system(run, folder, monkeypatch):
    started = []
    monkeypatch.setattr(player, "_start", started.append)
    monkeypatch.setattr(player.sys, "platform", "linux")
    have = {"mpv", "xdg-open"}
    monkeypatch.setattr(player.shutil, "which", lambda name: name if name in have else None)
    assert "mpv plays a.mp4 from 0:10.0-0:22.0" in run("search blue --open 1")[2]
    assert started.pop() == ["mpv", "--start=10.00", str(folder / "v" / "a.mp4")]
    assert "mpv plays" in run("search --open blue")[2] and started.pop()[0] == "mpv"
    have.remove("mpv")
    run("search blue --open")
    assert started.pop() == ["xdg-open", str(folder / "v" / "a.mp4")]
    run("search blue --html page.html --open")
    assert started.pop() == ["xdg-open", str(folder / "page.html")]
    status, _, err = run("search blue --open 99")
    assert status == 1 and "there is no moment 99 to open" in err
    have.clear()
    status, _, err = run("search blue --open")
    assert status == 1 and "no player found; install mpv or VLC" in err


@pytest.mark.parametrize("columns", [60, 100])
def test_rows_on_a_terminal_have_heads_and_fit(columns, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    _, out, head = run("search red")
    rows = out.splitlines()
    assert head.split() == ["N", "confidence", "similarity", "time", "video"]
    assert rows[0].split()[0] == "1" and rows[0].endswith("v/a.mp4")
    assert all(len(row) <= max(columns, 62) for row in rows)


TERMINALS = {
    "kitty": ({"TERM": "xterm-kitty"}, r"\x1b_G(?:.*?)m=\d;(.*?)\x1b\\"),
    "iterm": ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, r"\x1b]1337;.*?:(.*?)\a"),
}


@pytest.mark.parametrize("name", TERMINALS)
def test_a_terminal_that_shows_pictures_gets_the_best_frames(name, run, folder, monkeypatch):
    variables, code = TERMINALS[name]
    for variable in ("TMUX", "KONSOLE_VERSION", "LC_TERMINAL"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert "\x1b" not in run("search red -k 1")[1]  # no terminal
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    out = run("search red -k 1")[1]
    row, picture = out.splitlines()
    assert row.endswith("v/a.mp4")
    image = Image.open(io.BytesIO(b64decode("".join(re.findall(code, picture)))))
    red, green, blue = image.getpixel((5, 5))
    assert red > 200 and max(green, blue) < 60
    assert "\x1b" not in run("search red -k 1 --no-pictures")[1]
    unsure = run("search red")[1].splitlines()
    assert sum("\x1b" in line for line in unsure) < len(unsure) / 2  # none for no match
    monkeypatch.setenv("TMUX", "/tmp/tmux")
    assert "\x1b" not in run("search red -k 1")[1]


def test_a_video_that_broke_after_it_was_indexed_has_no_picture(run, folder, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-kitty")
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    video = folder / "v" / "a.mp4"
    content = video.read_bytes()
    video.write_bytes(b"?")
    try:
        status, out, err = run("search red -k 1")
    finally:
        video.write_bytes(content)
    assert status == 0 and "\x1b" not in out
    assert "no picture: " in err and "a.mp4: not a video, or damaged" in err


PYTHON_MISTAKES = """
VideoLibrary("library", "starter")          | not a name: Embedder.from_pretrained('starter')
segment("v/a.mp4", ["red"], "starter")      | not a name: Embedder.from_pretrained('starter')
answer("v/a.mp4", "", ["a", "b"], "starter") | an object, not a name
library.search(None)                        | queries must be a list of texts, got [None]
library.search(["red", "blue"])             | queries must be a list of texts, got [['red', 'blue']]
library.search_many("red")                  | queries must be a list of texts, got 'red'
library.search("red", "5")                  | are whole numbers, got ('5', 0, 0)
library.search("red", 2.5)                  | are whole numbers, got (2.5, 0, 0)
library.search("red", where={"size": 5})    | a filter is a text such as 'duration > 60'
extract_features(["v"], "f", "starter")     | FeatureStore.open_or_create
VideoCLIP.from_pretrained("starter")        | Embedder.from_pretrained('starter') loads it
"""


@pytest.mark.parametrize("row", [row for row in PYTHON_MISTAKES.splitlines() if row])
def test_a_mistake_in_python_says_what_to_write(row, run, monkeypatch):
    code, advice = map(str.strip, row.split(" | "))
    names = {name: getattr(videoclip, name) for name in videoclip.__all__}
    with VideoLibrary("library", ColourEmbedder("starter")) as library:
        names.update(library=library)
        with pytest.raises(VideoCLIPError, match=re.escape(advice)):
            eval(code, names)
