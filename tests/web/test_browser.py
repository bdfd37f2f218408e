"""The page in a headless Chromium, as a person uses it.

    SCREENSHOTS=docs/images python -m pytest tests/web/test_browser.py -k readme

writes the pictures of the README anew.
"""

import io
import json
import os
import shutil
import threading
import time
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra 'web' is not installed")
pytest.importorskip("playwright", reason="playwright is not installed")

import uvicorn
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.library.colours import ColourEmbedder, write_video
from videoclip.demo import sample_clips
from videoclip.embedding import Embedder
from videoclip.library.library import VideoLibrary
from videoclip.output.clip import write_thumbnail
from videoclip.output.html import environment_of
from videoclip.web.app import create_app
from videoclip.web.safety import ServeSettings

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


@contextmanager
def serving(app):
    """The address of a server of an application."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def site(made_videos, tmp_path_factory):
    """The address of a server with a library that tests may label."""
    folder = tmp_path_factory.mktemp("browser")
    with VideoLibrary(folder / "library", ColourEmbedder()) as library:
        library.update([made_videos])
        settings = ServeSettings(sources=(made_videos,), allow_upload=True)
        with serving(create_app(library, settings)) as address:
            yield address


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, site):
    """A page on which no script fails and nothing breaks the content security policy."""
    context = browser.new_context(base_url=site)
    page = context.new_page()
    page.set_default_timeout(20_000)
    problems = []

    def note(said):
        # htmx writes into the console that it aborted a request for a newer one.
        if said.type == "error" and not said.text.startswith(
            ("htmx:afterRequest", "htmx:sendAbort")
        ):
            problems.append(said.text)

    page.problems = problems
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", note)
    yield page
    context.close()
    assert problems == []


def wait_for(page, expression):
    """Wait until an expression is true; Playwright's own way needs `eval`, which pages forbid."""
    for _ in range(400):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(expression)


def open_video(page, name):
    """Open a video from the list of all, and wait until the scripts of its page have run."""
    page.goto("/videos")
    page.locator(".name", has_text=name).click()
    page.wait_for_url("**/videos/**")


def player_time(page):
    return page.evaluate("document.querySelector('moment-player').time")


def test_search_answers_while_typing_and_plays_the_moment_in_a_loop(page):
    page.goto("/")
    page.keyboard.type("yellow")  # the field has the focus
    page.wait_for_selector(".card")
    assert page.url.endswith("/?q=yellow")
    assert page.locator(".card .times").first.inner_text() == "0:20.0–0:25.0"
    page.locator(".play").first.click()
    wait_for(page, "document.querySelector('moment-player video').currentTime > 20")
    video = "document.querySelector('moment-player video')"
    page.evaluate(f"{video}.playbackRate = 3")
    times = [player_time(page)]
    for _ in range(200):
        page.wait_for_timeout(100)
        times.append(player_time(page))
        if times[-1] < times[-2]:  # it loops
            break
    assert all(19.9 <= time < 25.3 for time in times), times
    assert times[-1] < times[-2]


def test_strictness_and_back_button(page):
    page.goto("/?q=yellow&strictness=none")
    page.wait_for_selector(".card")
    many = page.locator(".card").count()
    page.get_by_label("high", exact=True).check()
    wait_for(page, f"document.querySelectorAll('.card').length < {many}")
    page.locator(".card .name").first.click()
    page.wait_for_selector("moment-player")
    assert "start=20.0" in page.url
    page.go_back()
    page.wait_for_selector(".card")
    assert "strictness=high" in page.url
    assert page.get_by_label("high", exact=True).is_checked()


def test_nothing_and_errors_are_said(page):
    page.goto("/?q=yellow")
    page.locator("summary", has_text="Options").click()
    page.fill("[name=where]", "length > 3")
    page.wait_for_selector(".problem")
    assert "unknown name" in page.locator(".problem").inner_text()
    page.fill("[name=where]", "duration > 1000")
    page.wait_for_selector("text=Nothing here matches")


def test_steps_are_found_edited_saved_and_exported(page):
    open_video(page, "a.mp4")
    page.fill("#find textarea", "green\nred")
    page.select_option("#find select", "labels")
    page.click("#find button")
    page.wait_for_selector("#status:has-text('2 spans')")
    rows = page.locator("#spans tbody tr")
    assert rows.count() == 2
    rows.first.locator("input").nth(2).fill("9.5")
    page.click("#spans >> text=Save spans")
    page.wait_for_selector("text=Saved.")
    page.reload()
    page.wait_for_selector("#spans tbody tr")
    assert rows.first.locator("input").nth(2).input_value() == "9.500"
    page.select_option("#export select", "json")
    with page.expect_download() as download:
        page.click("#export button")
    moments = json.loads(download.value.path().read_text())
    assert [(m["label"], m["end"]) for m in moments] == [("red", 9.5), ("green", 32.0)]


def addresses(page):
    """One address of each page."""
    page.goto("/?q=yellow&strictness=none")
    found = page.locator(".name").first.get_attribute("href")
    return ["/", "/?q=yellow", "/?q=red, then blue", found, "/videos", "/jobs", "/docs", "/login"]


def test_spans_are_added_and_removed(page):
    open_video(page, "b.mp4")
    rows = page.locator("#spans tbody tr")
    before = rows.count()
    page.click("#add")
    assert page.evaluate("document.activeElement.name") == "label"
    page.keyboard.type("mine")
    assert rows.last.locator("input").nth(2).input_value() == "5.000"
    assert page.locator("#spans-drawn rect").count() == before + 1
    rows.last.get_by_text("Play").click()
    wait_for(page, "document.querySelector('moment-player').end === 5")
    rows.last.locator("[name=end]").fill("")
    page.click("#spans >> text=Save spans")  # the browser asks for the time that is missing
    assert page.evaluate("document.activeElement.name") == "end"
    rows.last.get_by_text("Remove").click()
    assert rows.count() == before
    assert page.locator("#spans-drawn rect").count() == before


def test_a_question_is_answered_where_its_answer_is_seen(page):
    open_video(page, "a.mp4")
    page.fill("[name=choices]", "yellow\ngreen")
    page.click("#ask button")
    page.wait_for_selector("#answers >> text=green, best seen at")
    assert page.locator("#answers li").count() == 2
    wait_for(page, "document.querySelector('moment-player').time > 22")
    page.fill("[name=choices]", "green")
    with page.expect_response("**/ask") as answer:
        page.click("#ask button")
    assert answer.value.status == 422
    page.wait_for_selector("#status:has-text('choices')")
    assert page.locator("#answers li").count() == 2
    page.problems.clear()  # the console has the status


def test_without_scripts_each_control_works_or_is_disabled(browser, site):
    page = browser.new_page(base_url=site, java_script_enabled=False)
    counts = {}
    for address in addresses(page):
        page.goto(address)
        controls = page.locator(":is(button, input, select, textarea):enabled:not([type=hidden])")
        # A form with an address works without a script; marks (.pick) are read by one later.
        idle = page.locator(
            ":not(form[action] *, .pick):is(button, input, select, textarea):enabled"
        )
        assert idle.all_inner_texts() == [], address
        assert page.locator("[tabindex='0']:not([inert], ol)").count() == 0, address
        counts[address] = controls.count(), page.locator(":disabled").count()
    enabled, disabled = counts["/?q=yellow"]
    assert enabled > 10 and disabled > 4
    page.goto("/jobs")
    page.click("#index")
    page.wait_for_selector("#jobs >> text=index")
    page.goto("/?q=yellow")
    page.locator(".judge button").last.click()
    assert page.locator("[aria-pressed=true]").inner_text() == "✗ Wrong"
    assert page.url.endswith("/?q=yellow")
    page.fill("[name=q]", "red")
    page.check("text=medium")
    page.click("#search button")
    assert page.url.endswith("/?q=red&strictness=medium")
    assert page.locator(".card").count() > 0
    page.locator(".play").first.click()
    assert "/videos/" in page.url
    page.close()


@contextmanager
def late_scripts(page):
    """Hold back all scripts until the block is left."""
    held, is_open = [], False

    def handle(route):
        route.continue_() if is_open else held.append(route)

    page.route("**/static/*.js", handle)
    yield
    is_open = True
    for route in held:
        route.continue_()


def test_what_is_typed_before_the_scripts_have_come_is_searched(page):
    with late_scripts(page):
        page.goto("/", wait_until="commit")
        page.fill("[name=q]", "yellow")
        assert page.locator(".card").count() == 0
    page.wait_for_selector(".card")
    assert page.url.endswith("/?q=yellow")


def test_what_is_chosen_before_the_scripts_have_come_is_searched(page):
    with late_scripts(page):
        page.goto("/?q=yellow&vision=0.5", wait_until="commit")
        page.get_by_label("high", exact=True).check()
        picture = page.locator("#picture")
        assert picture.is_disabled()
    wait_for(page, "location.search === '?q=yellow&strictness=high&vision=0.5'")
    wait_for(page, "!document.querySelector('#picture').disabled")


def test_nothing_is_searched_again_when_the_scripts_have_come(page):
    sent = []
    page.on("request", lambda request: sent.append(request) if "/?q=" in request.url else None)
    page.goto("/?q=yellow&vision=0.50&speech=1.5")
    page.wait_for_timeout(500)
    assert len(sent) == 1


def test_a_click_before_the_scripts_have_come_is_not_lost(page):
    with late_scripts(page):
        page.goto("/?q=yellow&strictness=none&limit=1", wait_until="commit")
        page.locator(".judge button").first.click()
        page.wait_for_selector(".judge [aria-pressed=true]")
        page.locator(".paging a").click()
        page.wait_for_url("**&cursor=*", wait_until="commit")
        page.locator(".pick").first.check()
        assert page.locator("#export button").is_disabled()
        assert all(button.is_disabled() for button in page.locator("#fit button").all())
    with page.expect_download() as download:
        page.click("#export button")  # it waits until it is enabled
    assert len(download.value.path().read_text().splitlines()) == 2


def test_a_search_sent_before_the_scripts_have_come(page):
    with late_scripts(page):
        page.goto("/", wait_until="commit")
        page.fill("[name=q]", "yellow")
        page.press("[name=q]", "Enter")
        page.wait_for_url("**/?q=yellow", wait_until="commit")
        page.locator(".play").first.click()
        page.wait_for_url("**/videos/*start=20.0*", wait_until="commit")
    wait_for(page, "document.querySelector('moment-player video')?.currentTime >= 20")


def test_a_videos_page_before_its_scripts_have_come(page):
    open_video(page, "b.mp4")
    address = page.url
    with late_scripts(page):
        page.goto(address, wait_until="commit")
        page.fill("[name=q]", "yellow")
        page.locator(".cues a", has_text="chopping").click()
        page.wait_for_url("**start=21.0", wait_until="commit")
        page.fill("[name=texts]", "yellow")
        page.click("#find button")
        page.wait_for_url("**/find", wait_until="commit")
        page.click("#spans >> text=Save spans")
        page.wait_for_url("**/videos/*", wait_until="commit")
        page.fill("[name=q]", "yellow")
        page.press("[name=q]", "Enter")
        page.wait_for_url("**?q=yellow", wait_until="commit")
        for name in ("#export", ".tools"):
            assert page.locator(f"{name} button").first.is_disabled(), name
        assert page.locator(".strip").evaluate("(strip) => strip.inert")
    page.click("#add")
    assert page.locator("#spans tbody tr").count() == 2


def test_jobs_and_uploads_before_their_scripts_have_come(page, tmp_path):
    path = write_video(tmp_path / "late.mp4", ["green"] * 2)
    with late_scripts(page):
        page.goto("/jobs", wait_until="commit")
        page.click("#index")
        page.wait_for_selector("#jobs > ul > li")
        page.goto("/videos", wait_until="commit")
        assert page.locator("#upload input").is_disabled()
    wait_for(page, "!document.querySelector('#upload input').disabled")
    page.set_input_files("#upload input", str(path))
    page.wait_for_selector("#jobs > ul > li:first-child >> text=done")


def test_filter_and_login_before_the_scripts_have_come(page):
    with late_scripts(page):
        page.goto("/videos", wait_until="commit")
        page.fill("[name=where]", "duration > 33")
        page.press("[name=where]", "Enter")
        page.wait_for_url("**/videos?where=duration*", wait_until="commit")
        page.locator(".still").first.wait_for()
        page.goto("/login", wait_until="commit")
        page.fill("[name=token]", "x" * 32)
        page.click("main button")
        page.wait_for_selector("text=This is not the token.")
    page.problems.clear()  # the console has the status


def test_a_page_whose_session_has_ended_leads_to_the_login(browser, made_videos, tmp_path):
    token = "a-token-of-more-than-32-characters"
    with VideoLibrary(tmp_path / "library", ColourEmbedder()) as library:
        library.update([made_videos])
        settings = ServeSettings(host="0.0.0.0", token=token)
        with serving(create_app(library, settings)) as address:
            context = browser.new_context(base_url=address)
            page = context.new_page()
            page.set_default_timeout(20_000)

            def log_in():
                page.wait_for_url("**/login?next=*")
                page.fill("[name=token]", token)
                page.keyboard.press("Enter")
                page.wait_for_url("**/?q=yellow")

            page.goto("/?q=yellow")
            log_in()
            page.wait_for_selector(".card")
            context.clear_cookies()
            page.fill("[name=q]", "red")
            log_in()
            page.wait_for_selector(".card")
            context.close()


def test_an_older_answer_does_not_replace_a_newer_one(page):
    held = []
    page.route("**/?q=re&*", lambda route: held.append(route))
    page.goto("/")
    page.keyboard.type("re")
    for _ in range(400):
        if held:
            break
        page.wait_for_timeout(50)
    assert len(held) == 1
    page.fill("[name=q]", "yellow")
    page.wait_for_selector(".card")
    held[0].abort()
    page.wait_for_timeout(200)
    assert page.url.endswith("/?q=yellow")
    assert page.locator(".card .times").first.inner_text() == "0:20.0–0:25.0"


def test_submitting_is_a_step_in_the_history_and_typing_is_not(page):
    page.goto("/")
    page.keyboard.type("red")
    page.wait_for_selector(".card")
    page.keyboard.press("Enter")
    wait_for(page, "history.length === 3")  # with the empty page of the tab
    page.fill("[name=q]", "yellow")
    page.keyboard.press("Enter")  # within the delay of typing
    wait_for(page, "history.length === 4")
    page.wait_for_timeout(400)
    assert page.evaluate("history.length") == 4
    assert page.url.endswith("/?q=yellow") and page.title().startswith("yellow")
    page.get_by_label("none", exact=True).check()
    wait_for(page, "location.search === '?q=yellow&strictness=none'")
    page.go_back()
    page.wait_for_selector("[name=q][value=red]")
    assert page.url.endswith("/?q=red")
    assert page.input_value("[name=q]") == "red"
    assert page.get_by_label("low", exact=True).is_checked()
    page.go_forward()
    page.wait_for_selector("[name=q][value=yellow]")  # also if htmx did not listen yet
    assert page.input_value("[name=q]") == "yellow"
    assert page.get_by_label("none", exact=True).is_checked()
    assert page.evaluate("sessionStorage.getItem('htmx-history-cache')") is None


def test_going_back_twice_before_the_scripts_have_come(page):
    page.goto("/")
    for query in ("red", "yellow"):
        page.fill("[name=q]", query)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/?q={query}")
    with late_scripts(page):
        page.go_back(wait_until="commit")
        page.wait_for_selector("[name=q][value=red]")
        page.go_back(wait_until="commit")
        assert page.evaluate("location.search") == ""
    page.wait_for_selector("[name=q][value='']")
    assert page.locator(".card").count() == 0


def test_more_moments_come_into_the_list(page):
    page.goto("/?q=red&strictness=none&limit=2")
    first = page.locator(".card .times").all_inner_texts()
    page.locator(".pick").first.check()
    page.locator(".paging a").click()
    wait_for(page, "document.querySelectorAll('.card').length === 4")
    assert page.locator(".card .times").all_inner_texts()[:2] == first
    assert page.locator(".pick").first.is_checked()
    assert page.url.endswith("/?q=red&strictness=none&limit=2")
    wait_for(page, "document.activeElement === document.querySelectorAll('.card')[2]")


def test_what_was_found_is_said(page):
    page.goto("/")
    page.keyboard.type("yellow")
    page.wait_for_selector("#status >> text=/^[0-9]+ moments?$/")
    page.get_by_label("high", exact=True).check()
    page.fill("[name=q]", "green")
    page.wait_for_selector("#status:has-text('match'), #status:has-text('moment')")


def test_why_nothing_was_answered_is_said(browser, site):
    page = browser.new_page(base_url=site)
    page.goto("/?q=yellow")
    detail = "too much to do at once: try again"
    page.route(
        "**/?q=red&*", lambda route: route.fulfill(status=503, body=json.dumps({"detail": detail}))
    )
    page.route("**/?q=blue&*", lambda route: route.abort())
    page.route("**/labels", lambda route: route.fulfill(status=500, body="no JSON"))
    page.locator(".judge button").first.click()
    page.wait_for_selector("#status >> text=The server answered 500.")
    assert page.locator(".card").count() > 0
    page.fill("[name=q]", "red")
    page.wait_for_selector(f"#status >> text={detail}")
    assert page.locator("#results").inner_text() == detail
    page.fill("[name=q]", "blue")
    page.wait_for_selector("#status >> text=The server does not answer.")
    page.fill("[name=q]", "yellow")
    page.wait_for_selector(".card")
    page.close()


def test_jobs_show_their_progress_and_are_cancelled(browser, made_videos, tmp_path):
    steps = [threading.Event() for _ in range(3)]

    def work(job, on_progress):
        for i, step in enumerate(steps):
            on_progress(i, len(steps))
            step.wait(30)
        on_progress(3, 3)

    with VideoLibrary(tmp_path / "library", ColourEmbedder()) as library:
        app = create_app(library)
        with serving(app) as address:
            page = browser.new_page(base_url=address)
            page.set_default_timeout(20_000)
            jobs = app.state.served.jobs
            jobs.start("index", work)
            jobs.start("index", work)
            page.goto("/jobs")
            page.wait_for_selector("#jobs >> text=running 0 of 3")
            page.wait_for_selector("#jobs >> text=waiting")
            cancel = page.locator("button", has_text="Cancel").last
            cancel.focus()
            steps[0].set()
            page.wait_for_selector("#jobs >> text=running 1 of 3")
            assert cancel.evaluate("(button) => button === document.activeElement")
            with page.expect_response("**/cancel"):
                page.keyboard.press("Enter")
            steps[1].set()
            page.wait_for_selector("#jobs >> text=cancelled")
            for step in steps:
                step.set()
            wait_for(page, "document.querySelectorAll('#jobs .over').length === 2")
            assert page.locator("button:visible", has_text="Cancel").count() == 0
            sent = []
            page.on("request", lambda request: sent.append(request.url))
            page.wait_for_timeout(1500)
            assert sent == []  # nothing is left to ask for
            page.close()


def test_narration_seeks_and_marks_the_current_cue(page):
    open_video(page, "b.mp4")
    wait_for(page, "document.querySelector('moment-player video')?.readyState > 0")
    page.locator(".cues a", has_text="chopping").click()
    page.wait_for_selector(".cues a[aria-current]")
    assert abs(player_time(page) - 21) < 0.2
    page.keyboard.press(".")
    wait_for(page, "document.querySelector('moment-player').time > 21.05")
    assert abs(player_time(page) - 21.125) < 0.05  # one frame of eight a second


def test_keyboard_only(page):
    page.goto("/?q=yellow&strictness=none")
    page.wait_for_selector(".card")
    page.keyboard.press("Tab")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    assert page.locator(".pick:checked").count() == 2
    with page.expect_download() as download:
        page.click("#export button")
    assert len(download.value.path().read_text().splitlines()) == 3
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "q"


def test_clips_of_selected_moments_are_downloaded(page):
    page.goto("/?q=yellow")
    page.locator(".pick").first.check()
    page.select_option("#export select", "clips")
    with page.expect_download() as download:
        page.click("#export button")
    assert download.value.path().read_bytes()[:2] == b"PK"


def test_judgements_and_more_like_this(page):
    page.goto("/?q=yellow")
    button = page.locator(".judge button").first
    button.click()
    page.wait_for_selector(".judge [aria-pressed=true]")
    page.locator("text=More like this").first.click()
    page.wait_for_selector("text=Moments like the one chosen")
    assert page.locator(".card .times").first.inner_text() == "0:20.0–0:25.0"


def test_a_fit_of_the_confidence_is_undone(page):
    def first_level(query):
        page.goto(f"/?q={query}&strictness=none")
        return page.locator(".card .level").first.inner_text()

    def judge(value):
        page.locator(f".judge [value={value}]").first.click()
        page.locator(f".judge [value={value}][aria-pressed=true]").first.wait_for()

    first_level("blue")
    judge("yes")
    before = first_level("yellow")
    judge("no")
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("text=Fit the confidence")
    page.wait_for_selector("#status >> text=correct answers:")
    assert first_level("yellow") != before
    page.click("text=Undo the fit")
    page.wait_for_selector("#status >> text=thresholds: high from 2.10")
    assert first_level("yellow") == before


def test_an_upload_is_indexed_and_found(page, tmp_path):
    path = write_video(tmp_path / "uploaded.mp4", ["green"] * 4)
    page.goto("/videos")
    page.set_input_files("#upload input", str(path))
    page.wait_for_selector("#jobs > ul > li:first-child >> text=done")
    page.goto("/?q=green&where=path like '%25uploaded%25'&strictness=none")
    page.wait_for_selector(".card")
    page.goto("/jobs")
    page.click("#index")
    page.wait_for_selector("#jobs > ul > li:first-child >> text=unchanged")


def test_files_are_dropped_and_one_that_is_no_video_is_named(page, tmp_path):
    content = list(write_video(tmp_path / "x.mp4", ["green"] * 2).read_bytes())
    page.goto("/videos")
    files = """([content, names]) => {
        const data = new DataTransfer();
        for (const name of names) data.items.add(new File([new Uint8Array(content)], name));
        return data;
    }"""
    data = page.evaluate_handle(files, [content, ["dropped.mp4", "dropped.txt"]])
    page.dispatch_event("#upload", "drop", {"dataTransfer": data})
    page.wait_for_selector("#status:has-text('dropped.txt: a video')")
    page.wait_for_selector("#jobs > ul > li:first-child >> text=1 added")
    page.problems.clear()  # the console has the status


def test_a_file_that_chromium_cannot_play_is_encoded(page, site):
    """As an mp4 of another codec would be: the element gets an error and asks for a clip."""
    page.route("**/media", lambda route: route.fulfill(body=b"?", content_type="video/mp4"))
    page.goto("/?q=yellow")
    page.locator(".play").first.click()
    wait_for(page, "document.querySelector('moment-player video').currentTime > 0")
    wait_for(page, "document.querySelector('moment-player').time > 20")
    assert "/clip?start=20" in page.evaluate("document.querySelector('moment-player video').src")


def test_an_ordered_query_and_a_picture(page, tmp_path):
    page.goto("/")
    page.keyboard.type("red, then blue")
    page.wait_for_selector(".parts")
    assert page.locator(".card .times").first.inner_text() == "0:00.0–0:22.0"
    blue = Image.new("RGB", (2000, 1000), "blue")
    blue.paste(Image.effect_noise((200, 100), 100))  # a JPEG file of more than 2 kB, as of a camera
    blue.save(tmp_path / "blue.png")
    page.set_input_files("#picture", str(tmp_path / "blue.png"))
    page.wait_for_selector("text=Moments like this picture")
    assert "picture=" in page.url
    wait_for(page, "document.querySelector('.asked').naturalWidth === 640")
    assert page.locator(".card .times").first.inner_text() == "0:10.0–0:22.0"
    page.fill("[name=q]", "yellow")
    wait_for(page, "location.search === '?q=yellow&strictness=none'")


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_no_page_has_serious_findings_of_axe(page, scheme):
    page.emulate_media(color_scheme=scheme)
    for address in addresses(page):
        page.goto(address)
        violations = Axe().run(page).response["violations"]
        serious = [
            (one["id"], one["nodes"][0]["html"])
            for one in violations
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == [], address


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screens_in_light_and_dark(page, scheme):
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme=scheme)
    page.goto("/?q=yellow&strictness=none")
    addresses = [page.locator(".name").first.get_attribute("href"), "/videos", "/jobs", "/docs"]
    for address in ["/?q=yellow", *addresses]:
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, address
    page.goto(addresses[0])
    page.fill("[name=texts]", "yellow")
    page.click("#find button")
    page.wait_for_selector("#status >> text=/^[0-9]+ spans?$/")  # which replaced those before
    remove = page.locator("#spans .remove").first
    assert remove.bounding_box()["height"] < 50  # its text is on one line
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    back, text = page.evaluate(
        "(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))"
    )
    light = [sum(map(int, colour[4:-1].split(","))) for colour in (back, text)]
    assert (light[0] > light[1]) == (scheme == "light")


def test_long_names_of_files_take_two_lines_of_a_card(browser, made_videos, tmp_path):
    names = ["b", "2024-" * 40, "Holiday_" * 25, ("many words " * 18).strip()]
    (tmp_path / "videos").mkdir()
    for name in names:
        (tmp_path / "videos" / f"{name}.mp4").hardlink_to(made_videos / "a.mp4")
    with VideoLibrary(tmp_path / "library", ColourEmbedder()) as library:
        library.update([tmp_path / "videos"])
        with serving(create_app(library, ServeSettings())) as address:
            page = browser.new_page(base_url=address)
            for width, place in product((1280, 390), ("/?q=red", "/videos")):
                page.set_viewport_size({"width": width, "height": 844})
                page.goto(place)
                shown = page.locator(".card .name").evaluate_all(
                    "(all) => all.map((one) => [one.title, one.offsetHeight])"
                )
                heights = dict(shown)
                assert set(heights) == {f"{name}.mp4" for name in names}
                assert max(heights.values()) == 2 * heights["b.mp4"], place
                assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.close()


def test_wide_tables_of_written_pages_scroll_on_narrow_screens(page):
    templates = environment_of("videoclip.output")
    body = '<table id="wide"><tr>' + "<td>a_long_name_of_a_measure</td>" * 20 + "</tr></table>"
    written = "{% extends 'page.html' %}{% block body %}" + body + "{% endblock %}"
    page.set_viewport_size({"width": 390, "height": 844})
    page.set_content(templates.from_string(written).render())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("wide.scrollWidth > wide.clientWidth")


def save_picture(page, name, folder):
    """Save what the page shows as a small WebP file."""
    file = io.BytesIO(page.screenshot())
    Image.open(file).save(Path(folder) / name, quality=80, method=6)


@pytest.mark.slow
def test_the_pictures_of_the_readme(browser, tmp_path):
    folder = os.environ.get("SCREENSHOTS") or tmp_path
    with VideoLibrary(tmp_path / "library", Embedder.from_pretrained("starter")) as library:
        library.update(sample_clips())
        moment = library.search("a rabbit in a meadow")[0]
        shutil.copy(write_thumbnail(moment, tmp_path), Path(folder) / "found.jpg")
        with serving(create_app(library)) as address:
            context = browser.new_context(
                base_url=address, viewport={"width": 1000, "height": 560}, color_scheme="light"
            )
            page = context.new_page()
            page.set_default_timeout(20_000)
            page.goto("/?q=a rabbit in a meadow&strictness=medium")
            assert page.locator(".name").first.inner_text() == "bigbuckbunny.mp4"
            wait_for(page, "[...document.images].every((i) => i.naturalWidth > 0)")
            save_picture(page, "page-search.webp", folder)
            page.locator(".name").first.click()
            wait_for(page, "document.querySelector('moment-player video')?.readyState > 2")
            page.set_viewport_size({"width": 1000, "height": 860})
            page.locator(".sheet img").last.scroll_into_view_if_needed()  # they load when visible
            wait_for(page, "[...document.images].every((i) => i.complete)")
            page.locator(".curve").wait_for(state="attached")
            page.evaluate("scrollTo(0, 0)")
            save_picture(page, "page-video.webp", folder)
            context.close()
    for name in ("page-search.webp", "page-video.webp"):
        assert (Path(folder) / name).stat().st_size < 100_000
