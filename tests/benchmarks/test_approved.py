"""What every reader makes of small files, and every message about wrong ones."""

import gzip
import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest

from tests import approved
from tests.approved import outcome
from tests.data.test_approved import WORDS
from videoclip.benchmarks import load_benchmarks
from videoclip.benchmarks.crosstask import released_split
from videoclip.benchmarks.examples import StepVideo, Task
from videoclip.benchmarks.files import (
    find_file,
    open_text,
    read_json,
    read_json_lines,
    read_rows,
    read_video_ids,
)
from videoclip.benchmarks.howto100m import read_captions, read_task_titles
from videoclip.benchmarks.msrvtt import read_msrvtt_captions, read_msrvtt_pairs
from videoclip.data.sources import write_archive
from videoclip.data.tokenizer import Tokenizer

SENTENCE = {"annotation_id": 4, "video": "a.b.mov", "description": " cut ", "num_segments": 6}
SENTENCE |= {"times": [[0, 1], [2, 2]]}
COIN = {"class": "Cook", "duration": 9, "subset": "testing"}
COIN |= {
    "annotation": [
        {"id": "2", "label": "cut", "segment": [1, 3.5]},
        {"id": 1, "label": "fry", "segment": [0, 1]},
    ]
}
TASKS = "7\nMake Tea\nhttp\n2\nboil water, pour\n\n8\nRest\nhttp\n1\nsit\n"
QUERY = {"qid": 5, "query": "a girl", "duration": 7, "vid": "x"}
MARKED = QUERY | {
    "relevant_windows": [[2, 5]],
    "relevant_clip_ids": [1],
    "saliency_scores": [[4, 2, 0]],
}
COOK = {
    "a_1": {
        "subset": "validation",
        "duration": 9,
        "annotations": [
            {"id": 0, "segment": [0, 4], "sentence": "cut"},
            {"id": 1, "segment": [4, 9], "sentence": "fry"},
        ],
    }
}
MSRVTT = {
    "videos": [
        {"video_id": "video1", "split": "test", "category": 3},
        {"video_id": "video2", "split": "train", "category": 4},
    ],
    "sentences": [
        {"sen_id": 1, "video_id": "video2", "caption": "two"},
        {"sen_id": 0, "video_id": "video1", "caption": "one"},
        {"sen_id": 7, "video_id": "video1", "caption": "more"},
    ],
}
ANET = {"v_x": {"duration": 9.0, "timestamps": [[0, 3], [9, 2]], "sentences": ["A.", "  B."]}}
STEPS = {
    "v": {
        "subset": "val_seen",
        "activity": "Tea",
        "annotations": [{"id": 2, "segment": [1, 2]}, {"id": 2, "segment": [5, 6]}],
    },
    "w": {"subset": "train", "activity": "Tea", "annotations": [{"id": 1, "segment": [1, 2]}]},
    "n": {"subset": "val_seen", "activity": "Tea", "annotations": []},
}
TAXONOMY = (
    "global_step_index,activity,variation,headline\n1,Tea,v,Boil\n2,Tea,v,Pour\n3,Tea,w,Sit\n"
)
QUESTION = "video,question,answer,qid,type,a0,a1,a2,a3,a4\n40,how,1,6,CH,a,b,c,d,e\n"
CHOICES = "key\tvid_key\ta1\ta2\ta3\ta4\ta5\tanswer\nk0\tmsr9\ta\tb\tc\td\te\t4\n"
RETRIEVED = "key,vid_key,video_id,sentence\nret0,msr9770,video9770,a man\n"
YOUCOOK = "end,start,task,text,video_id\n12,3,1,cut,ab\n"
OWN = "video,start,end,text,more\nk,12.5,18,chop,1\ng,,, plant ,2\n"


def changed(values, **changes):
    return [values | changes]


FILES = {
    "activitynet": (
        "val_1.json",
        [ANET, {"v": ANET["v_x"] | {"sentences": ["A."]}}, [1], {"v": 3}, {"v": {}}],
    ),
    "activitynet_moments": (
        "val_1.json",
        [
            ANET,
            *(
                {"v": ANET["v_x"] | {"timestamps": times}}
                for times in ([[0, 1], 3], [[2, 2], [1, 3]])
            ),
        ],
    ),
    "charades": (
        "charades_sta_test.txt",
        [
            "V 8.0 7.5##x y.\n\nW 1 2##z",
            "V 8\n",
            "V 1 2\n",
            "V 2 2##x",
            "V a 2##x",
            "V -1 2##x",
            "V 1 2##  ",
        ],
    ),
    "coin": (
        "COIN.json",
        [
            {"database": {"v": COIN, "w": COIN | {"subset": "training", "annotation": []}}},
            [{"v": COIN}, {"u": COIN | {"subset": "validation"}}],
            [{"v": COIN}, {"v": COIN}],
            [3],
            {
                "database": {
                    "v": COIN | {"annotation": [{"id": 0, "label": "a", "segment": [0, 1]}]}
                }
            },
            {
                "database": {
                    "v": COIN | {"annotation": [{"id": 3, "label": "a", "segment": [0, 1]}]}
                }
            },
            {
                "database": {
                    "v": COIN,
                    "w": COIN | {"annotation": [{"id": 2, "label": "b", "segment": [0, 1]}]},
                }
            },
            {
                "database": {
                    "v": COIN | {"annotation": [{"id": 1, "label": "a", "segment": [1, 1]}]}
                }
            },
            {"database": {}},
            {},
        ],
    ),
    "didemo": (
        "test_data.json",
        [
            [SENTENCE],
            {},
            [3],
            [SENTENCE, SENTENCE],
            changed(SENTENCE, times=[[2, 1]]),
            changed(SENTENCE, times=[[0, 6]]),
            changed(SENTENCE, times=[]),
            changed(SENTENCE, annotation_id=1.5),
            changed(SENTENCE, description=" "),
            changed(SENTENCE, num_segments="x"),
        ],
    ),
    "didemo_paragraph": (
        "test_data.json",
        [[SENTENCE, SENTENCE | {"annotation_id": 5, "description": "fry", "video": "a.b."}]],
    ),
    "htm_align": (
        "htm_align.json",
        [
            {"v": [[1, 2, 4.5, "cut"], [0, 5, 5, "talk"]], "w": []},
            [],
            {"v": [[1, 2, 3]]},
            {"v": 3},
            {"v": [[2, 1, 2, "a"]]},
            {"v": [[1, 3, 2, "a"]]},
        ],
    ),
    "ht_step": (
        "annotations.json",
        [
            STEPS,
            {"v": STEPS["v"] | {"annotations": [{"id": 9, "segment": [1, 2]}]}},
            {"v": STEPS["v"] | {"annotations": [{"id": i, "segment": [1, 2]} for i in (1, 3)]}},
        ],
    ),
    "msrvtt": (
        "MSRVTT_JSFUSION_test.csv",
        [
            RETRIEVED,
            RETRIEVED.replace("msr9770", "msr1"),
            RETRIEVED + "ret0,msr1,video1,a\n",
            "key\n",
        ],
    ),
    "msrvtt_qa": (
        "MSR_MC_test.csv",
        [
            CHOICES,
            CHOICES.replace("\t4\n", "\t5\n"),
            CHOICES * 2,
            CHOICES + "k0\tmsr9\ta\tb\tc\td\te\t1\n",
        ],
    ),
    "nextqa": (
        "val.csv",
        [
            QUESTION,
            QUESTION.replace(",1,6", ",-1,6"),
            QUESTION.replace("how", ""),
            QUESTION.replace(",type", ",kind"),
        ],
    ),
    "qvhighlights": (
        "highlight_val_release.jsonl",
        [
            f"{json.dumps(MARKED)}\n\n{json.dumps(QUERY | {'qid': 6})}",
            f"{json.dumps(QUERY)}\n{json.dumps(QUERY)}",
            json.dumps(MARKED | {"relevant_clip_ids": [3]}),
            json.dumps(MARKED | {"relevant_clip_ids": []}),
            json.dumps(MARKED | {"relevant_windows": [[5, 2]]}),
            "[]",
            "{",
        ],
    ),
    "youcook2": (
        "youcookii_annotations_trainval.json",
        [
            {"database": COOK},
            {"database": {"a": COOK["a_1"] | {"duration": 8}}},
            {"database": {"a": COOK["a_1"] | {"annotations": COOK["a_1"]["annotations"][1:]}}},
            {"data": 1},
        ],
    ),
    "csv": (
        "own.csv",
        [
            OWN,
            OWN.replace("18", ""),
            OWN.replace("18", "1"),
            OWN.replace("chop", ""),
            "video,txt\na,b\n",
            OWN + "a,b\n",
            OWN.replace("start", " start ").replace(",text", ", text"),
            'video,text\n"a,b\n',
        ],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_readers(name, tmp_path):
    file, contents = FILES[name]
    read, found = load_benchmarks()[name].read, []
    (tmp_path / "taxonomy.csv").write_text(TAXONOMY)
    for content in contents:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / file).write_text(text)
        found.append(outcome(lambda: read(tmp_path if name != "csv" else tmp_path / file)))
    (tmp_path / file).unlink()
    found.append(outcome(lambda: read(tmp_path)))
    found.append(outcome(lambda: read(tmp_path / "none")))
    approved.check(f"read-{name}", found, TMP=tmp_path)


def release(folder, **changes):
    files = {
        "tasks_primary.txt": TASKS,
        "videos.csv": "7,a_b,http\n8,c,http\n9,d,http\n7,e,http\n",
        "videos_val.csv": "7,a_b,http\n",
        "annotations/7_a_b.csv": "1,0.5,2\n2,3,4.25\n",
        "annotations/8_c.csv": "1,0,2\n",
    } | changes
    for name, text in files.items():
        path = folder / "crosstask_release" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(text)


def test_the_release_of_crosstask(tmp_path):
    read = load_benchmarks()["crosstask"].read
    release(tmp_path)
    found = {"read": read(tmp_path), "number": len(read(tmp_path))}
    for name, changes in {
        "short": {"tasks_primary.txt": "7\nMake Tea\n"},
        "unseparated": {"tasks_primary.txt": TASKS.replace("\n\n", "\nx\n")},
        "steps": {"tasks_primary.txt": TASKS.replace("http\n2", "http\n3")},
        "blank": {"tasks_primary.txt": TASKS.replace(", pour", ",")},
        "twice": {"tasks_primary.txt": TASKS.replace("8\nRest", "7\nRest")},
        "videos": {"videos.csv": "7,a_b,http\n7,a_b,http\n"},
        "strange": {"annotations/7_z.csv": "1,0,1\n"},
        "step": {"annotations/8_c.csv": "2,0,2\n"},
        "step 0": {"annotations/8_c.csv": "0,0,2\n"},
        "of a related task": {"annotations/9_d.csv": "1,0,1\n"},
        "span": {"annotations/8_c.csv": "1,2,2\n"},
        "fields": {"annotations/8_c.csv": "1,2\n"},
        "no list": {"videos_val.csv": None},
    }.items():
        release(tmp_path / name, **changes)
        found[name] = outcome(lambda name=name: read(tmp_path / name))
    for path in (tmp_path / "crosstask_release" / "annotations").iterdir():
        path.unlink()
    (tmp_path / "crosstask_release" / "annotations").rmdir()
    found["no annotations"] = outcome(lambda: read(tmp_path))
    tasks = [Task(str(i), "t", ("a",)) for i in range(2)]
    videos = [StepVideo(f"v{i}", tasks[i % 3 == 0], ()) for i in range(60)]
    available = {f"v{i}" for i in range(58)}
    for number, seed in (("first", 0), ("other", 3)):
        parts = released_split(videos, {("0", "v1"), ("1", "v2")}, available, seed)
        found[f"{number} split"] = [" ".join(v.video_id for v in part) for part in parts]
    found["small splits"] = [
        [len(p) for p in released_split(some, (), available)]
        for some in (videos[:40], [v for v in videos if v.task is tasks[0]][:30], videos[:46])
    ]
    approved.check("read-crosstask", found, TMP=tmp_path)


def workbook(path, *sheets):
    from openpyxl import Workbook

    book = Workbook()
    book.remove(book.active)
    for rows in sheets:
        sheet = book.create_sheet()
        for row in rows:
            sheet.append(row)
    book.save(path)


def test_other_files(tmp_path):
    found = {}

    def write(name, content):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def read(key, call):
        found[key] = outcome(call)

    coin = load_benchmarks()["coin"].read
    write("COIN.json", {"database": {"v": COIN}})
    for key, sheets in {
        "taxonomy": ([["no"]], [["Action Id", "Action Label"], [1, "fry"], [2, "cut"], [3, "eat"]]),
        "other taxonomy": ([["Action Id", "Action Label"], [1, "fry"], [2, "boil"]],),
        "short taxonomy": ([["Action Id", "Action Label"], [1, "fry"]],),
        "holes": ([["Action Id", "Action Label"], [1, "fry"], [2, "cut"], [9, "eat"]],),
        "twice": ([["Action Id", "Action Label"], [1, "fry"], [1, "cut"]],),
        "no sheet": ([["a"]],),
    }.items():
        workbook(tmp_path / "taxonomy.xlsx", *sheets)
        read(key, lambda: coin(tmp_path)[0].labels)
    write("taxonomy.xlsx", b"PK")
    read("no workbook", lambda: str(outcome(lambda: coin(tmp_path))).partition("(")[0])
    didemo = load_benchmarks()["didemo"].read
    write("test_data.json", [SENTENCE])
    read("without validation", lambda: didemo(tmp_path)[1])
    write("val_data.json", [SENTENCE])
    read("with validation", lambda: [part[0].example_id for part in didemo(tmp_path)])

    youcook = load_benchmarks()["youcook2"].read
    write("youcookii_annotations_trainval.json", {"database": COOK})
    write("validation_youcook.csv", YOUCOOK + "9,9,1,a,b\n")
    read("empty span", lambda: youcook(tmp_path))
    write("validation_youcook.csv", YOUCOOK)
    read("table", lambda: youcook(tmp_path))
    for key, items in {
        "pickle": [{"id": "a_1_1"}],
        "no clip": [{"id": "a_1_2"}],
        "no list": {},
        "item": [3],
    }.items():
        write("youcook_val.pkl", pickle.dumps(items))
        read(key, lambda: youcook(tmp_path))
    write("b.json", MSRVTT)
    read("captions", lambda: read_msrvtt_captions(tmp_path / "b.json"))
    read("pairs", lambda: read_msrvtt_pairs(tmp_path / "b.json", ["video2", "video1"]))
    read("no pair", lambda: read_msrvtt_pairs(tmp_path / "b.json", ["video3", "video1", "x"]))
    videos, sentences = MSRVTT["videos"], MSRVTT["sentences"]
    for key, content in {
        "strange sentence": {"videos": videos[:1], "sentences": sentences},
        "no sentence": {"videos": videos, "sentences": sentences[1:]},
        "split": {"videos": [videos[0] | {"split": "val"}], "sentences": sentences[1:]},
        "two videos": {"videos": videos[:1] * 2, "sentences": []},
    }.items():
        write("b.json", content)
        read(key, lambda: read_msrvtt_captions(tmp_path / "b.json"))
    question = {"qid": "mc0", "clip_name": "video1", "options": list("abcde"), "answer": "2"}
    for key, rows in {
        "questions": [question],
        "options": [question | {"options": ["a"]}],
        "again": [question] * 2,
    }.items():
        write("msrvtt_multi_choice_qa.jsonl", "\n".join(map(json.dumps, rows)))
        read(key, lambda: load_benchmarks()["msrvtt_qa"].read(tmp_path))

    write("task_ids.csv", "7\tMake Tea\n8\tRest\n")
    read("titles", lambda: read_task_titles(tmp_path / "task_ids.csv"))
    silent = {"start": [], "end": [], "text": []}
    spoken = {"v": {"start": [0, 2, 3], "end": [1.5, 2, 4], "text": ["a\nb", " ", "c"]}}
    for key, text in {
        "spoken": json.dumps(spoken),
        "cap beside text": json.dumps({"v": spoken["v"] | {"cap": [[4]]}}),
        "lengths": json.dumps({"v": {"start": [0], "end": [], "text": []}}),
        "spans": json.dumps({"v": {"start": [3], "end": [2], "text": ["a"]}}),
        "repeated": f'{{"v": {json.dumps(silent)}, "v": {json.dumps(silent)}}}',
        "cut": '{"v": {"start": [0',
        "mark": '["v"]',
        "value": '{"v": 3}',
        "deep": '{"v": {"a": ' + "[" * 100_000,
    }.items():
        write("captions.json", text)
        read(key, lambda: list(read_captions(tmp_path / "captions.json")))
    words = Tokenizer(WORDS)
    for key, table in {
        "pickled": {"v": json.dumps(spoken["v"]), 3: spoken["v"]},
        "ids": {"v": {"start": [0], "end": [1], "cap": [[4, 5, 6]]}},
        "unknown ids": {"v": {"start": [0], "end": [1], "cap": [[11], [12]]}},
        "no ids": {"v": {"start": [0], "end": [1], "cap": [[True]]}},
        "pickled list": [1],
        "pickled text": {"v": "{"},
    }.items():
        path = write("captions.pkl", pickle.dumps(table))
        read(key, lambda path=path: list(read_captions(path, words)))
    write("captions.pkl", pickle.dumps({"v": {"start": [0], "end": [1], "cap": [[4]]}}))
    read("no vocabulary", lambda: list(read_captions(tmp_path / "captions.pkl")))

    write("list.txt", "video_id\na\nb\n")
    read("ids of videos", lambda: read_video_ids(tmp_path / "list.txt"))
    write("list.txt", "a\na\n")
    read("ids twice", lambda: read_video_ids(tmp_path / "list.txt"))
    write_archive(
        tmp_path / "shards" / "0.tar",
        {"k.txt": b"chop", "L.TXT": b"fry", "g.srt": b"00:01 --> 00:02\nplant", "k.mp4": b""},
    )
    table = load_benchmarks()["csv"].read
    read("archive", lambda: table(tmp_path / "shards" / "0.tar"))
    read("folder of archives", lambda: len(table(tmp_path / "shards")))
    write_archive(tmp_path / "none.tar", {"k.mp4": b""})
    read("no captions", lambda: table(tmp_path / "none.tar"))
    (tmp_path / "empty").mkdir()
    read("folder", lambda: table(tmp_path / "empty"))
    write(
        "own.jsonl",
        '{"video": "k", "text": "a", "start": null}\n'
        '{"video": "k", "text": "b", "start": 1, "end": "2"}\n'
        '{"video": "k", "text": "c", "start": 0, "end": 2}',
    )
    read("lines", lambda: table(tmp_path / "own.jsonl"))
    write("own.jsonl.gz", gzip.compress(b'{"video": "k", "text": "packed"}'))
    read("packed lines", lambda: table(tmp_path / "own.jsonl.gz"))
    approved.check("read-other-files", found, TMP=tmp_path)


def test_broken_files(tmp_path):
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.json", b"\xef\xbb\xbf[1]")
    two = io.BytesIO()
    with zipfile.ZipFile(two, "w") as archive:
        archive.writestr("a.json", "1")
        archive.writestr("b.json", "1")
    contents = {
        "a.json": b'{"a": 1, "a": 2}',
        "b.json": b'{"a": ',
        "c.json": b"[1,\n 2,, 3]",
        "d.json": b'"a',
        "e.json": b"\xff",
        "f.json": b"\xef\xbb\xbf[1]",
        "g.json": b"1" * 5000,
        "h.json": b"[" * 100_000,
        "i.json.gz": gzip.compress(b"\xef\xbb\xbf[1]"),
        "j.json.gz": b"no",
        "k.json.gz": gzip.compress(b"[1]")[:-6],
        "l.zip": zipped.getvalue(),
        "m.zip": two.getvalue(),
        "n.zip": b"no",
    }
    found = {}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        found[name] = outcome(lambda name=name: read_json(tmp_path / name))
    found["absent"] = outcome(lambda: read_json(tmp_path / "absent"))
    found["a folder"] = outcome(lambda: read_json(tmp_path))
    (tmp_path / "lines.csv.gz").write_bytes(gzip.compress(b'a,b\r\n"1\r\n2",3\r\n'))
    (tmp_path / "lines.csv").write_bytes(b'a,b\r\n"1\r\n2",3\r\n')
    for name in ("lines.csv.gz", "lines.csv"):
        found[name] = [[r.values, r.line] for r in read_rows(tmp_path / name)]
    (tmp_path / "t.csv").write_text('a,b\n1,2\n\n"x,y", z\n')
    found["rows"] = [[r.values, r.line] for r in read_rows(tmp_path / "t.csv", ("b",))]
    found["columns"] = outcome(lambda: list(read_rows(tmp_path / "t.csv", ("c", "d"))))
    found["named"] = [
        r.values for r in read_rows(tmp_path / "t.csv", names=("p", "q"), delimiter=",")
    ]
    (tmp_path / "u.jsonl").write_text('{"a": 1}\n\n{"b": }\n')
    found["lines"] = outcome(lambda: [r.line for r in read_json_lines(tmp_path / "u.jsonl")])
    (tmp_path / "u.jsonl").write_text('{"a": 1}\n\n{"b": 2}\n')
    found["numbers"] = [r.line for r in read_json_lines(tmp_path / "u.jsonl")]
    found["files"] = [find_file(tmp_path, "z", "i.json"), find_file(tmp_path / "a.json", "z")]
    found["no file"] = [
        outcome(lambda: find_file(tmp_path, "y", "z")),
        outcome(lambda: find_file(Path("/x/y"), "z")),
    ]
    record = next(read_rows(tmp_path / "t.csv"))
    record.values |= {
        "n": "1e3",
        "w": "2.5",
        "nan": "nan",
        "bool": True,
        "long": "x" * 99,
        "list": ["a", ""],
    }
    calls = {
        "number": lambda: record.number("n"),
        "integer": lambda: record.integer("n"),
        "no integer": lambda: record.integer("w"),
        "nan": lambda: record.number("nan"),
        "bool": lambda: record.number("bool"),
        "long": lambda: record.number("long"),
        "choice": lambda: record.choice("a", 1),
        "texts": lambda: record.texts("list"),
        "table": lambda: record.table("a"),
        "field": lambda: record.text("z"),
        "text": lambda: record.text("bool"),
        "spans": lambda: [record.span((1, 1), allow_empty=True), record.span([0, 2])],
        "span": lambda: record.span([1, 1]),
        "three": lambda: record.span([1, 2, 3]),
        "minus": lambda: record.span([-1, 2]),
    }
    found |= {name: outcome(call) for name, call in calls.items()}
    with open_text(tmp_path / "t.csv") as file:
        found["text file"] = file.readline()
    approved.check("read-broken-files", found, TMP=tmp_path)


def test_benchmarks():
    known = load_benchmarks()
    approved.check(
        "benchmarks", {name: [b.protocol, list(b.published)] for name, b in known.items()}
    )
