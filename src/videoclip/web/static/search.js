// The search page: answers while typing, moments that play in their cards, judgements, selection.
import { ask, element, exporting, keys, say, saying } from "./shared.js";

const form = document.querySelector("#search");
let timer, request;

const addressOf = () => {
  const state = new URLSearchParams(new FormData(form));
  const defaults = { q: "", where: "", strictness: "low", vision: "1", speech: "1" };
  if (state.get("q")?.trim()) for (const name of ["like", "picture", "start", "end"]) state.delete(name);
  for (const [name, value] of [...state]) if (Number(value) === 1 && name in { vision: 1, speech: 1 } || defaults[name] === value) state.delete(name);
  return state.size ? `/?${state}` : "/";
};

async function show(address, how) {
  request?.abort();
  request = new AbortController();
  let answer;
  try { answer = await fetch(address, { signal: request.signal, headers: { Accept: "text/html" } }); }
  catch (error) { if (error.name !== "AbortError") say("The server does not answer."); return; }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const results = page.querySelector("#results") ?? page.querySelector("main");
  const here = document.querySelector("#results");
  here.replaceChildren(...results.childNodes);
  here.dataset.query = results.dataset.query ?? "";
  document.title = page.title;
  if (how) history[how](null, "", address);
  const count = here.querySelectorAll(".card").length;
  say(count ? `${count} ${count === 1 ? "moment" : "moments"}` : here.textContent.trim().slice(0, 200));
}

// Search by a picture, made small here: large enough for every model, below the limit of a request.
const PIXELS = 640;
async function searchByPicture(file) {
  const image = await createImageBitmap(file).catch(() => { throw new Error("This is not a picture that the browser can read."); });
  const scale = Math.min(1, PIXELS / Math.max(image.width, image.height)), canvas = element("canvas");
  canvas.width = Math.max(1, image.width * scale);
  canvas.height = Math.max(1, image.height * scale);
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  const body = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  const answer = await fetch("/api/v1/pictures", { method: "POST", body });
  if (!answer.ok) throw new Error((await answer.json()).detail);
  const state = new URLSearchParams({ picture: (await answer.json()).id, strictness: "none" });
  location.assign(`/?${state}`);
}
const picture = document.querySelector("#picture");
picture.addEventListener("change", saying(() => searchByPicture(picture.files[0])));
addEventListener("paste", saying(async (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file) await searchByPicture(file);
}));

form.addEventListener("input", (event) => {
  if (event.target === picture) return;
  clearTimeout(timer);
  timer = setTimeout(() => show(addressOf(), "replaceState"), 200);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(timer);
  show(addressOf(), "pushState");
});
addEventListener("popstate", () => location.reload());
// What was typed before this script had come.
if (form.elements.q.value !== form.elements.q.defaultValue) show(addressOf(), "replaceState");

const data = (card) => ({ video: card.dataset.video, start: Number(card.dataset.start), end: Number(card.dataset.end) });

function play(card) {
  for (const player of document.querySelectorAll(".card moment-player")) {
    const other = player.closest(".card");
    player.remove();
    other.querySelector(".play").hidden = false;
    if (other === card) return;
  }
  const { video, start, end } = data(card), place = `/api/v1/videos/${video}`;
  const player = element("moment-player", { media: `${place}/media`, clip: `${place}/clip`, start, end });
  card.querySelector(".play").hidden = true;
  card.prepend(player);
  player.play();
}

async function judge(button) {
  const card = button.closest(".card"), is_correct = button.dataset.correct === "yes";
  const query = document.querySelector("#results").dataset.query;
  const answer = await ask("/api/v1/labels", { ...data(card), query, is_correct });
  for (const other of card.querySelectorAll(".judge")) other.setAttribute("aria-pressed", String(other === button));
  say(`${(await answer.json()).count} marked`);
}

document.querySelector("#results").addEventListener("click", saying(async (event) => {
  const button = event.target.closest("button");
  if (button?.matches(".play")) play(button.closest(".card"));
  else if (button?.matches(".judge")) await judge(button);
}));

document.querySelector("#fit").addEventListener("click", saying(async () => {
  say((await (await ask("/api/v1/labels/fit")).json()).message);
}));

exporting(() => [...document.querySelectorAll(".card:has(.pick:checked)")].map((card) => ({
  ...data(card), label: card.dataset.label.slice(0, 300), confidence: card.dataset.confidence,
})));

const current = () => document.querySelector(".card.current");
function move(step) {
  const cards = [...document.querySelectorAll("#results .card")], old = current();
  const next = cards[Math.min(Math.max(cards.indexOf(old) + step, 0), cards.length - 1)];
  old?.classList.remove("current");
  next?.classList.add("current");
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}
const step = (frames) => () => document.querySelector(".card moment-player")?.step(frames);
keys({
  "/": () => form.elements.q.focus(),
  j: () => move(1),
  k: () => move(-1),
  p: () => current() && play(current()),
  x: () => current()?.querySelector(".pick").click(),
  o: () => current()?.querySelector(".name").click(),
  ",": step(-1),
  ".": step(1),
});
