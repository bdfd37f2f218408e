"""The REST API answers as the library does, and names no path."""

import io
import json
import os
import shutil
import time
import zipfile

import av
import numpy as np
import pytest
from PIL import Image

from videoclip.errors import DataError
from videoclip.library.labels import read_labels
from videoclip.zeroshot.confidence import Thresholds


def get(client, address, **params):
    answer = client.get(f"/api/v1/{address}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def wait(client, answer):
    """Follow a job to its end."""
    assert answer.status_code == 202, answer.text
    place = answer.headers["location"]
    for _ in range(600):
        status = client.get(place).json()
        if status["state"] in ("done", "failed", "cancelled"):
            return status
        time.sleep(0.05)
    raise AssertionError(status)


def test_search_returns_what_the_library_finds(client, indexed, ids):
    found = get(client, "search", q="yellow", limit=3)["items"]
    expected = indexed.search("yellow", 3)
    assert [(m["name"], m["start"], m["end"], m["strength"], m["confidence"]) for m in found] == [
        (m.path.name, m.start, m.end, m.strength, m.confidence) for m in expected
    ]
    assert found[0]["video"] == ids["b.mp4"]
    assert "path" not in found[0]


def test_pages_of_a_search_are_parts_of_one_list(client):
    whole = get(client, "search", q="red", limit=5)["items"]
    pages, cursor = [], ""
    while len(pages) < len(whole):
        page = get(client, "search", q="red", limit=2, cursor=cursor)
        pages += page["items"]
        cursor = page["next"]
        if cursor is None:
            break
    assert pages[: len(whole)] == whole


def test_strictness_leaves_out_weaker_moments(client):
    whole = get(client, "search", q="yellow", limit=100)["items"]
    levels = ["none", "low", "medium", "high"]
    for least, level in enumerate(levels):
        found = get(client, "search", q="yellow", limit=100, strictness=level)["items"]
        assert found == [m for m in whole if levels.index(m["confidence"]) >= least]
    assert 0 < len(found) < len(whole)
    page = get(client, "search", q="yellow", limit=len(found), strictness="high")
    assert page["items"] == found and page["next"] is None  # the rest is weaker


def test_a_filter_and_weights_combine_with_a_query(client):
    found = get(client, "search", q="chopping onions", vision=0, where="duration > 33")["items"]
    assert [m["name"] for m in found] == ["b.mp4"]
    assert found[0]["has_all_words"]
    assert (
        get(client, "search", q="chopping onions", vision=0, where="duration < 33")["items"] == []
    )


def test_more_like_a_span_begins_with_it(client, ids):
    found = get(client, "search", like=ids["b.mp4"], start=20, end=25, limit=1)["items"]
    assert (found[0]["name"], found[0]["start"], found[0]["end"]) == ("b.mp4", 20.0, 25.0)


def test_videos_are_listed_in_pages_and_filtered(client):
    first = get(client, "videos", limit=2)
    rest = get(client, "videos", limit=2, cursor=first["next"])
    assert [v["name"] for v in first["items"] + rest["items"]] == ["a.mp4", "b.mp4", "c d.mp4"]
    assert rest["next"] is None
    assert [v["name"] for v in get(client, "videos", where="duration < 5")["items"]] == ["c d.mp4"]


def test_a_video_has_narration_and_a_score_curve(client, ids):
    details = get(client, f"videos/{ids['b.mp4']}")
    assert (details["playback"], details["has_narration"]) == ("direct", True)
    cues = get(client, f"videos/{ids['b.mp4']}/narration")["items"]
    assert cues[1]["start"] == 21.0
    curve = get(client, f"videos/{ids['b.mp4']}/curve", q="yellow")
    best = max(curve["points"], key=lambda point: point["strength"])
    assert 20 <= best["start"] < 25
    assert len(curve["points"]) == 35
    assert curve["low"] <= curve["medium"] <= curve["high"]


def test_media_takes_ranges(client, ids, made_videos):
    content = (made_videos / "a.mp4").read_bytes()
    address = f"/api/v1/videos/{ids['a.mp4']}/media"
    whole = client.get(address)
    assert (whole.content, whole.headers["content-type"]) == (content, "video/mp4")
    part = client.get(address, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(content)}"
    assert client.get(address, headers={"Range": f"bytes={len(content)}-"}).status_code == 416
    assert client.get(address, headers={"Range": "bytes=x"}).status_code in (200, 400, 416)


def test_a_clip_has_the_frames_of_its_span(client, ids):
    answer = client.get(f"/api/v1/videos/{ids['a.mp4']}/clip", params={"start": 10, "end": 12})
    with av.open(io.BytesIO(answer.content)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 16
    assert all(frame[16, 16].argmax() == 2 for frame in frames)  # blue
    wrong = client.get(f"/api/v1/videos/{ids['a.mp4']}/clip", params={"start": 12, "end": 12})
    assert wrong.status_code == 422


def test_a_file_in_another_container_is_played_as_mp4(own_client, library, videos, tmp_path):
    other = tmp_path / "more" / "a.mkv"
    other.parent.mkdir()
    with av.open(str(videos / "a.mp4")) as source, av.open(str(other), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    library.update([other])
    found = get(own_client, "videos", where="path like '%.mkv'")["items"][0]
    assert get(own_client, f"videos/{found['id']}")["playback"] == "remux"
    answer = own_client.get(f"/api/v1/videos/{found['id']}/media")
    with av.open(io.BytesIO(answer.content)) as container:
        assert "mp4" in container.format.name
        assert sum(1 for _ in container.decode(video=0)) == 32 * 8


def test_a_thumbnail_shows_its_time(client, ids):
    address = f"/api/v1/videos/{ids['a.mp4']}/thumbnail"
    from PIL import Image

    image = Image.open(io.BytesIO(client.get(address, params={"t": 15}).content))
    assert image.getpixel((16, 16))[2] > 150
    assert client.get(address, params={"t": 1e6}).status_code == 200


def test_segment_localize_and_ask(client, ids):
    video = ids["a.mp4"]
    asked = {"video": video, "labels": ["green", "red"]}
    spans = client.post("/api/v1/segment", json=asked).json()
    assert [(m["label"], m["start"], m["end"]) for m in spans["moments"]] == [
        ("red", 0.0, 10.0),
        ("green", 22.0, 32.0),
    ]
    asked = {"video": video, "steps": ["blue", "red"]}
    steps = client.post("/api/v1/localize", json=asked).json()
    assert len(steps["moments"]) + len(steps["missing"]) == 2
    found = client.post("/api/v1/localize", json={**asked, "ordered": False}).json()
    assert {m["label"] for m in found["moments"]} == {"blue", "red"}
    asked = {"video": video, "question": "", "choices": ["yellow", "blue"]}
    answer = client.post("/api/v1/ask", json=asked).json()
    assert answer["choices"][0]["text"] == "blue"
    assert 10 <= answer["best"] < 22


@pytest.mark.parametrize("form", ["csv", "json", "edl", "fcpxml", "vtt", "youtube"])
def test_export(client, ids, form, made_videos):
    moments = [{"video": ids["a.mp4"], "start": 10, "end": 22, "label": "blue"}]
    answer = client.post("/api/v1/export", json={"format": form, "moments": moments})
    assert answer.status_code == 200
    assert "blue" in answer.text
    kinds = {"csv": "text/csv", "json": "application/json", "edl": "text/plain", "vtt": "text/vtt"}
    kinds |= {"fcpxml": "application/xml", "youtube": "text/plain"}
    assert answer.headers["content-type"].partition(";")[0] == kinds[form]
    suffix = "txt" if form == "youtube" else form
    assert answer.headers["content-disposition"] == f'attachment; filename="moments.{suffix}"'
    if form in ("csv", "edl", "json"):
        assert str(made_videos / "a.mp4") in answer.text  # this machine's own user


def test_clips_come_as_a_zip_file(client, ids):
    moments = [{"video": ids["a.mp4"], "start": 10, "end": 11}]
    moments.append({"video": ids["b.mp4"], "start": 500, "end": 501})
    answer = client.post("/api/v1/export", json={"format": "clips", "moments": moments})
    status = wait(client, answer)
    assert (status["state"], status["message"], len(status["failed"])) == ("done", "1 clips", 1)
    content = client.get(f"{answer.headers['location']}/result").content
    assert zipfile.ZipFile(io.BytesIO(content)).namelist() == ["001-a.mp4"]


def test_clips_that_are_cancelled_leave_no_file(own_client, monkeypatch):
    from videoclip.web import served

    (video,) = get(own_client, "videos")["items"]
    media = own_client.app.state.served.media.folder
    before, jobs = set(media.iterdir()), own_client.app.state.served.jobs

    def cut_and_cancel(source, start, end, target):
        target.write_bytes(b"clip")
        (job,) = [job for job in jobs.list() if not job.is_over]
        own_client.delete(f"/api/v1/jobs/{job.id}")

    monkeypatch.setattr(served, "cut_clip", cut_and_cancel)
    moments = [{"video": video["id"], "start": 10, "end": 11}]
    answer = own_client.post("/api/v1/export", json={"format": "clips", "moments": moments})
    assert wait(own_client, answer)["state"] == "cancelled"
    assert set(media.iterdir()) == before


def test_spans_are_saved(own_client):
    (video,) = get(own_client, "videos")["items"]
    address = f"/api/v1/videos/{video['id']}/spans"
    spans = [{"label": "blue", "start": 10.0, "end": 12.5}]
    assert own_client.put(address, json=spans).status_code == 204
    assert own_client.get(address).json()["items"] == spans
    assert own_client.put(address, json=[{"start": 2, "end": 1}]).status_code == 422


def test_judgements_fit_the_confidence(own_client, library):
    (video,) = get(own_client, "videos")["items"]
    judgement = {"video": video["id"], "start": 10, "end": 22, "query": "blue"}

    def judge(**values):
        return own_client.post("/api/v1/labels", json={**judgement, **values})

    assert own_client.post("/api/v1/labels/fit").status_code == 422  # nothing is labelled
    assert judge(is_correct=False).json() == {"count": 1}
    assert judge(is_correct=True).json() == {"count": 1}  # replaces the other
    assert own_client.post("/api/v1/labels/fit").status_code == 422  # all of one kind
    wrong = library.search("yellow", 1, speech=0)[0]
    judge(query="yellow", start=wrong.start, end=wrong.end, is_correct=False)
    assert own_client.post("/api/v1/labels/fit").status_code == 200
    labels = read_labels(library.folder / "web" / "labels.csv")
    assert [(label.query, label.is_wrong) for label in labels] == [
        ("blue", False),
        ("yellow", True),
    ]
    assert library.search("blue", 1, speech=0)[0].confidence != "none"
    assert library.search("yellow", 1, speech=0)[0].confidence == "none"
    undone = own_client.delete("/api/v1/labels/fit")
    assert undone.json() == {"message": str(Thresholds())} and library.thresholds == Thresholds()
    assert len(read_labels(library.folder / "web" / "labels.csv")) == 2


def test_an_index_job_reports_progress_and_failures(own_client, videos):
    (videos / "broken.mp4").write_bytes(b"no video")
    answer = own_client.post("/api/v1/jobs", json={"kind": "index"})
    with own_client.stream("GET", f"{answer.headers['location']}/events") as events:
        lines = [line for line in events.iter_lines() if line.startswith("data:")]
    status = json.loads(lines[-1].removeprefix("data:"))
    assert (status["state"], list(status["failed"])) == ("done", ["broken.mp4"])
    assert str(videos) not in json.dumps(status)
    assert len(get(own_client, "videos")["items"]) == 3
    assert get(own_client, "jobs")["items"][0]["id"] == status["id"]


def test_a_job_is_cancelled(own_client, monkeypatch):
    from videoclip.web.jobs import Jobs

    def work(job, on_progress):
        for i in range(10_000):
            on_progress(i, 10_000)
            time.sleep(0.001)

    jobs = own_client.app.state.served.jobs
    assert isinstance(jobs, Jobs)
    job = jobs.start("test", work)
    status = wait(own_client, own_client.delete(f"/api/v1/jobs/{job.id}"))
    assert status["state"] == "cancelled"
    assert own_client.delete("/api/v1/jobs/none").status_code == 404
    for address in ("", "/events", "/result"):
        assert own_client.get(f"/api/v1/jobs/none{address}").status_code == 404


def test_an_upload_is_indexed(own_client, made_videos):
    content = (made_videos / "b.mp4").read_bytes()
    answer = own_client.put("/api/v1/uploads/new%20one.mp4", content=content)
    assert wait(own_client, answer)["state"] == "done"
    names = [video["name"] for video in get(own_client, "videos")["items"]]
    assert "new one.mp4" in names
    again = own_client.put("/api/v1/uploads/new%20one.mp4", content=content)
    assert again.status_code == 409
    too_long = own_client.put(f"/api/v1/uploads/{'%C3%A9' * 100}.mp4", content=content)
    assert too_long.status_code == 422  # in bytes, which file systems count


def test_an_upload_is_on_the_disk_before_it_has_its_name(own_client, made_videos, monkeypatch):
    from videoclip.web import api  # here, since the extra 'web' may be absent

    content, calls = (made_videos / "b.mp4").read_bytes(), []
    sync, link = api.sync, os.link

    def record_sync(path):
        calls.append((path.suffix, path.read_bytes() if path.is_file() else "folder"))
        sync(path)

    def record_link(old, new):
        calls.append((old.suffix, new.name))
        link(old, new)

    monkeypatch.setattr(api, "sync", record_sync)
    monkeypatch.setattr(api.os, "link", record_link)
    answer = own_client.put("/api/v1/uploads/new.mp4", content=content)
    assert wait(own_client, answer)["state"] == "done"
    assert calls[:3] == [(".part", content), (".part", "new.mp4"), ("", "folder")]


def test_a_video_whose_file_is_gone(own_client, videos):
    (video,) = get(own_client, "videos")["items"]
    (videos / "a.mp4").unlink()
    assert get(own_client, f"videos/{video['id']}")["playback"] == "missing"
    answer = own_client.get(f"/api/v1/videos/{video['id']}/media")
    assert (answer.status_code, answer.json()["title"]) == (410, "Gone")
    assert own_client.get(f"/videos/{video['id']}").status_code == 200


def test_the_api_describes_itself(client):
    document = client.get("/openapi.json").json()
    assert "/api/v1/search" in document["paths"]
    assert "GET /api/v1/search" in client.get("/docs").text
    assert client.get("/healthz").text == client.get("/readyz").text == "ok\n"
    get(client, "search", q="red")
    assert 'route="/api/v1/search"' in client.get("/metrics").text


def test_moments_of_a_codec_that_browsers_do_not_know_are_encoded(own_client, library, tmp_path):
    other = tmp_path / "old" / "old.avi"
    other.parent.mkdir()
    with av.open(str(other), "w") as target:
        stream = target.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(24):
            image = np.full((32, 32, 3), (30, 30, 220), np.uint8)
            target.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        target.mux(stream.encode(None))
    library.update([other])
    found = get(own_client, "videos", where="path like '%.avi'")["items"][0]
    assert get(own_client, f"videos/{found['id']}")["playback"] == "transcode"
    assert own_client.get(f"/api/v1/videos/{found['id']}/media").status_code == 415
    clip = own_client.get(f"/api/v1/videos/{found['id']}/clip", params={"start": 0, "end": 1})
    with av.open(io.BytesIO(clip.content)) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == "h264"


def test_old_clips_are_dropped_when_they_take_too_much(own_client, monkeypatch):
    from videoclip.web import media

    monkeypatch.setattr(media, "MAX_CACHE", 1)
    (video,) = get(own_client, "videos")["items"]
    for start in (0, 1):
        address = f"/api/v1/videos/{video['id']}/clip?start={start}&end={start + 1}"
        assert own_client.get(address).status_code == 200
    assert len(list(own_client.app.state.served.media.folder.glob("*.mp4"))) == 1


def test_a_job_that_fails_says_why(own_client, library):
    jobs = own_client.app.state.served.jobs
    place = str(library.folder / "x.mp4")
    errors = {"failed": DataError("is damaged", place), "a bug": ZeroDivisionError("a bug")}
    for reason, error in errors.items():

        def work(job, on_progress, error=error):
            raise error

        job = jobs.start("test", work)
        while not job.is_over:
            time.sleep(0.01)
        status = get(own_client, f"jobs/{job.id}")
        assert status["state"] == "failed"
        assert str(library.folder) not in status["message"]
        assert status["message"] in ("x.mp4: is damaged", reason)


def test_too_many_jobs_are_refused(own_client, monkeypatch):
    monkeypatch.setattr("videoclip.web.jobs.MAX_WAITING", 0)
    answer = own_client.post("/api/v1/jobs", json={"kind": "index"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")


def test_only_the_last_jobs_and_their_files_are_kept(own_client, monkeypatch, tmp_path):
    monkeypatch.setattr("videoclip.web.jobs.MAX_KEPT", 2)
    jobs = own_client.app.state.served.jobs

    def work(job, on_progress):
        job.result = tmp_path / f"{job.kind}.zip"
        job.result.touch()

    for number in range(5):
        job = jobs.start(str(number), work)
        while not job.is_over:
            time.sleep(0.01)
    assert [job.kind for job in jobs.list()] == ["4", "3", "2"]
    assert {path.stem for path in tmp_path.glob("*.zip")} == {"4", "3", "2"}


def test_a_job_tells_how_long_the_rest_will_take(monkeypatch):
    from videoclip.web import jobs

    monkeypatch.setattr(jobs, "time", lambda: 130.0)
    left = [
        jobs.Job("index", state, done, 10, began=began).seconds_left
        for state, done, began in (
            *(("running", 1, 100.0), ("running", 5, 100.0), ("running", 10, 100.0)),
            *(("running", 0, 100.0), ("waiting", 0, None), ("done", 10, 100.0)),
        )
    ]
    assert left == [270, 30, 0, None, None, None]


def test_browsers_keep_pictures_for_a_while_and_answers_not_at_all(client, ids):
    video = ids["a.mp4"]
    expected = {
        "/api/v1/videos": "no-store",
        "/api/v1/search?q=red": "no-store",
        "/api/v1/videos/none": "no-store",
        "/": "no-store",
        "/metrics": "no-store",
        f"/api/v1/videos/{video}/thumbnail": "private, max-age=3600",
        f"/api/v1/videos/{video}/media": "private, max-age=3600",
        "/static/style.css": "no-cache",
    }
    found = {place: client.get(place).headers["cache-control"] for place in expected}
    assert found == expected


def test_what_changes_in_the_library_is_shown_at_once(own_client, library, videos):
    (video,) = get(own_client, "videos")["items"]
    address = f"/api/v1/videos/{video['id']}/thumbnail"
    before = own_client.get(address, params={"t": 1}).content
    (videos / "a.mp4").unlink()  # a hard link to a file that other tests read
    shutil.copy(videos / "b.mp4", videos / "a.mp4")
    library.update([videos])
    changed, *others = get(own_client, "videos")["items"]
    assert (changed["id"], len(others)) == (video["id"], 2)
    assert changed["duration"] == others[0]["duration"] != video["duration"]
    assert own_client.get(address, params={"t": 1}).content != before
    (videos / "a.mp4").unlink()
    library.update([videos], prune=True)
    assert own_client.get(f"/api/v1/videos/{video['id']}").status_code == 404


@pytest.mark.parametrize(
    "start, end, is_right", [(1, 2, True), (1, 1, False), (2, 1, False), (-1, 1, False)]
)
def test_a_span_ends_after_its_start(own_client, start, end, is_right):
    (video,) = get(own_client, "videos")["items"]
    span = {"label": "x", "start": start, "end": end}
    requests = {
        "export": {"format": "json", "moments": [{**span, "video": video["id"]}]},
        "labels": {"query": "x", "video": video["id"], "start": start, "end": end}
        | {"is_correct": True},
    }
    for name, content in requests.items():
        answer = own_client.post(f"/api/v1/{name}", json=content)
        assert answer.is_success == is_right, answer.text
    answer = own_client.put(f"/api/v1/videos/{video['id']}/spans", json=[span])
    assert answer.is_success == is_right


def test_pages_reach_a_thousand_moments(client):
    def status(cursor, limit):
        answer = client.get("/api/v1/search", params={"q": "red", "cursor": cursor, "limit": limit})
        return answer.status_code

    assert [status(f"o{offset:x}", 20) for offset in (0, 980, 981, 1000)] == [200, 200, 422, 422]
    assert [status("", limit) for limit in (0, 1, 100, 101)] == [422, 200, 200, 422]


def test_a_picture_is_a_query(client, tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "blue").save(file, "PNG")
    sent = client.post("/api/v1/pictures", content=file.getvalue())
    assert sent.status_code == 201
    id = sent.json()["id"]
    shown = client.get(f"/api/v1/pictures/{id}")
    assert (shown.content, shown.headers["content-type"]) == (file.getvalue(), "image/png")
    found = client.get("/api/v1/search", params={"picture": id}).json()["items"][0]
    assert (found["name"], found["start"], found["end"]) == ("a.mp4", 10.0, 22.0)
    page = client.get("/", params={"picture": id, "strictness": "none"}).text
    assert f'src="/api/v1/pictures/{id}"' in page and 'data-start="10.0"' in page
    both = client.get("/api/v1/search", params={"picture": id, "q": "red"})
    assert both.status_code == 422


def test_what_is_no_picture_is_refused(client):
    assert client.post("/api/v1/pictures", content=b"<html>").status_code == 422
    damaged = client.post("/api/v1/pictures", content=b"\x89PNG\r\n\x1a\n and nothing").json()["id"]
    answer = client.get("/api/v1/search", params={"picture": damaged})
    assert answer.status_code == 422 and "/" not in answer.json()["detail"]
    page = client.get("/", params={"picture": damaged})
    assert page.status_code == 200 and 'class="problem"' in page.text
    gone = client.get("/api/v1/search", params={"picture": "0" * 24})
    assert gone.status_code == 404 and "choose it again" in gone.json()["detail"]
