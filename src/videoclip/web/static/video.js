// A video's page: narration, steps and labels whose spans can be edited, questions.
import { share } from "./player.js";
import { clock, enable, exporting, isPlainClick, keys, say } from "./shared.js";

const root = document.querySelector("#video"), id = root.dataset.id;
const duration = Number(root.dataset.duration);
const player = document.querySelector("moment-player");
const strip = document.querySelector(".strip");
const marks = { start: null, end: null };
if (player?.hasAttribute("end")) { marks.start = player.number("start"); marks.end = player.number("end"); }

// --- where we are

player?.addEventListener("time", ({ detail }) => {
  document.querySelector("#clock").textContent = clock(detail);
  for (const cue of document.querySelectorAll(".cues a")) {
    const isCurrent = Number(cue.dataset.time) <= detail && detail < Number(cue.dataset.end);
    if (isCurrent && !cue.hasAttribute("aria-current")) {
      const list = cue.closest(".cues");
      list.scrollTop = cue.parentElement.offsetTop - list.offsetTop - list.clientHeight / 3;
    }
    isCurrent ? cue.setAttribute("aria-current", "true") : cue.removeAttribute("aria-current");
  }
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-time]");
  if (!link || !player || !isPlainClick(event)) return;
  event.preventDefault();
  player.go(Number(link.dataset.time));
});
// Scrubbing: the still nearest to the pointer is marked on the contact sheet.
strip.addEventListener("pointermove", (event) => {
  const stills = document.querySelectorAll(".sheet a"), nearest = Math.min(stills.length - 1, Math.floor(share(event) * stills.length));
  stills.forEach((still, i) => still.classList.toggle("near", i === nearest));
});
strip.addEventListener("pointerleave", () => document.querySelector(".sheet .near")?.classList.remove("near"));

// --- start and end of a span; the address keeps them

function mark(name) {
  if (!player) return;
  marks[name] = Math.round(player.time * 1000) / 1000;
  showMarks();
}
function showMarks() {
  const { start, end } = marks, isSpan = start !== null && end !== null && start < end;
  document.querySelector("#marks").textContent =
    start === null && end === null ? "" : `${start === null ? "…" : clock(start)}–${end === null ? "…" : clock(end)}`;
  if (!isSpan) return;
  const address = new URL(location.href);
  address.searchParams.set("start", start);
  address.searchParams.set("end", end);
  history.replaceState(null, "", address);
  document.querySelector("#like").href = `/?like=${id}&start=${start}&end=${end}&strictness=none`;
  player.span(start, end);
}
const actions = {
  i: () => mark("start"),
  o: () => mark("end"),
  l: () => {
    if (!player) return;
    player.loops = !player.loops;
    document.querySelector("[data-key=l]").setAttribute("aria-pressed", String(player.loops));
  },
  p: () => player?.toggle(),
  ",": () => player?.step(-1),
  ".": () => player?.step(1),
};
keys(actions);
for (const button of document.querySelectorAll("[data-key]")) button.addEventListener("click", actions[button.dataset.key]);

// --- spans

const spans = document.querySelector("#spans"), table = () => spans.querySelector("tbody");
const rows = () => [...table().rows];
function spanOf(row) {
  const [label, start, end] = row.querySelectorAll("input");
  return { label: label.value.trim(), start: Number(start.value), end: Number(end.value) };
}
function draw() {
  const rects = rows().map((row) => {
    const { start, end } = spanOf(row), rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const place = { x: (start / duration) * 1000, width: Math.max(0, end - start) / duration * 1000, y: 70, height: 30 };
    for (const [name, value] of Object.entries(place)) rect.setAttribute(name, value);
    return rect;
  });
  document.querySelector("#spans-drawn").replaceChildren(...rects);
}
spans.addEventListener("input", draw);
spans.addEventListener("click", ({ target }) => {
  const row = target.closest("tr");
  if (target.matches(".remove")) { row.remove(); draw(); }
  if (target.matches(".play-span")) {
    const { start, end } = spanOf(row);
    player?.span(start, end);
    player?.play();
  }
});
document.querySelector("#add").addEventListener("click", () => {
  table().append(document.querySelector("#new-span").content.cloneNode(true));
  const [label, start, end] = rows().at(-1).querySelectorAll("input"), from = marks.start ?? player?.time ?? 0;
  start.value = from.toFixed(3);
  end.value = (marks.end > from ? marks.end : Math.min(from + 5, duration)).toFixed(3);
  label.focus();
  show();
});
exporting(() => rows().map((row) => ({ ...spanOf(row), video: id, confidence: row.dataset.confidence })));

// --- what the forms were answered

document.addEventListener("htmx:afterOnLoad", ({ target, detail: { successful } }) => {
  if (!successful) return;
  const best = document.querySelector("#answers [data-time]");
  if (target.id === "find") say(rows().length === 1 ? "1 span" : `${rows().length} spans`);
  if (target.id === "spans") say("Saved.");
  if (target.id === "ask") { best.click(); say(best.textContent); }
});
function show() {
  enable();
  draw();
}
document.addEventListener("htmx:load", show); // also when htmx has brought other spans
show();
