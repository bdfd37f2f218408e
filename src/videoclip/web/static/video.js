// A video's page: narration, steps and labels whose spans can be edited, questions.
import { share } from "./player.js";
import { ask, clock, element, enable, exporting, isPlainClick, keys, say, saying, sending } from "./shared.js";

const root = document.querySelector("#video"), id = root.dataset.id;
const duration = Number(root.dataset.duration);
const player = document.querySelector("moment-player");
const strip = document.querySelector(".strip");
const table = document.querySelector("#spans tbody");
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

root.addEventListener("click", (event) => {
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

function addRow({ label = "", start, end, confidence = "" }) {
  const number = (name, value) =>
    element("input", { type: "number", step: "0.001", min: "0", value: Number(value).toFixed(3), "aria-label": `${name} of ${label || "span"}` });
  const inputs = [element("input", { value: label, maxlength: 300, "aria-label": "Label" }), number("Start", start), number("End", end)];
  const play = element("button", { type: "button", "aria-label": `Play ${label || "span"}` }, "Play");
  const remove = element("button", { type: "button", "aria-label": `Remove ${label || "span"}` }, "Remove");
  const row = element("tr", {}, ...inputs.map((input) => element("td", {}, input)), element("td", {}, confidence), element("td", {}, play, " ", remove));
  row.span = () => ({ label: inputs[0].value.trim(), start: Number(inputs[1].value), end: Number(inputs[2].value) });
  row.confidence = confidence;
  play.addEventListener("click", () => {
    const { start: from, end: to } = row.span();
    player?.span(from, to);
    player?.play();
  });
  remove.addEventListener("click", () => { row.remove(); draw(); });
  row.addEventListener("input", draw);
  table.append(row);
}
const rows = () => [...table.rows];
function draw() {
  const rects = rows().map((row) => {
    const { start, end } = row.span();
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const place = { x: (start / duration) * 1000, width: Math.max(0, end - start) / duration * 1000, y: 70, height: 30 };
    for (const [name, value] of Object.entries(place)) rect.setAttribute(name, value);
    return rect;
  });
  document.querySelector("#spans-drawn").replaceChildren(...rects);
}
const saved = rows().map((row) => ({ ...row.dataset }));
table.replaceChildren();
saved.forEach(addRow);
draw();

document.querySelector("#add").addEventListener("click", () => {
  const start = marks.start ?? player?.time ?? 0;
  addRow({ start, end: marks.end > start ? marks.end : Math.min(start + 5, duration) });
  draw();
});

const lines = (text) => [...new Set(text.split("\n").map((line) => line.trim()).filter(Boolean))];
const find = document.querySelector("#find");
sending(find, async () => {
  const texts = lines(find.elements.texts.value), kind = find.elements.kind.value;
  if (!texts.length) return say("Type a step or label first.");
  say("Looking …");
  const answer = kind === "labels"
    ? await ask("/api/v1/segment", { video: id, labels: texts })
    : await ask("/api/v1/localize", { video: id, steps: texts, ordered: kind === "ordered" });
  const { moments, missing } = await answer.json();
  table.replaceChildren();
  moments.forEach(addRow);
  draw();
  document.querySelector("#missing").textContent = missing.length ? `Not found: ${missing.join(", ")}` : "";
  say(`${moments.length} spans`);
});

document.querySelector("#save").addEventListener("click", saying(async () => {
  await ask(`/api/v1/videos/${id}/spans`, rows().map((row) => row.span()), "PUT");
  say("Saved.");
}));
exporting(() => rows().map((row) => ({ ...row.span(), video: id, confidence: row.confidence })));

// --- questions

const question = document.querySelector("#ask");
sending(question, async () => {
  const choices = lines(question.elements.choices.value);
  if (choices.length < 2) return say("A question needs two possible answers.");
  say("Looking …");
  const found = await (await ask("/api/v1/ask", { video: id, question: question.elements.question.value, choices })).json();
  document.querySelector("#answers").replaceChildren(
    ...found.choices.map(({ text, probability }) => element("li", {}, `${text}: ${(100 * probability).toFixed(0)} %`)));
  player?.go(found.best);
  say(`${found.choices[0].text}, best seen at ${clock(found.best)}`);
});
enable();
