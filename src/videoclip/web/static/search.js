// The search page, whose answers htmx loads: the address, pictures, moments that play in their cards, selection.
import { ask, element, enable, exporting, isPlainClick, keys, reason, say, saying, sending } from "./shared.js";

const form = document.querySelector("#search"), results = document.querySelector("#results");

// A submitted search is a step back in the history; what is typed replaces the address.
form.addEventListener("htmx:configRequest", ({ detail: { triggeringEvent } }) => {
  if (triggeringEvent.type === "submit") form.setAttribute("hx-push-url", "true");
  else form.removeAttribute("hx-push-url");
});
form.addEventListener("htmx:afterOnLoad", ({ detail: { successful, xhr } }) => {
  if (!successful) results.replaceChildren(element("p", { class: "problem", role: "alert" }, reason(xhr)));
  const count = results.querySelectorAll(".card").length, more = results.querySelector(".paging") ? " and more" : "";
  say(count ? `${count} ${count === 1 ? "moment" : "moments"}${more}` : results.textContent.trim().slice(0, 200));
});
// Once htmx listens: what came before it did. Back and forward changed the address only; what was typed or chosen is searched.
const isChanged = (input) => {
  const fresh = input.cloneNode();
  fresh.value = input.defaultValue; // as the browser writes it: 1 for 1.0
  return input.value !== fresh.value || input.checked !== input.defaultChecked;
};
addEventListener("DOMContentLoaded", () => {
  if (form.dataset.query !== location.search.slice(1)) location.reload();
  const changed = [...form.querySelectorAll("input[name]")].find(isChanged);
  if (changed) htmx.trigger(changed, "input");
});

// Search by a picture, made small here: large enough for every model, below the limit of a request.
const PIXELS = 640;
async function searchByPicture(file) {
  const image = await createImageBitmap(file).catch(() => { throw new Error("This is not a picture that the browser can read."); });
  const scale = Math.min(1, PIXELS / Math.max(image.width, image.height)), canvas = element("canvas");
  canvas.width = Math.max(1, image.width * scale);
  canvas.height = Math.max(1, image.height * scale);
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  const body = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  const { id } = await (await ask("/api/v1/pictures", body)).json();
  location.assign(`/?picture=${id}&strictness=none`);
}
const picture = document.querySelector("#picture");
picture.addEventListener("change", saying(() => searchByPicture(picture.files[0])));
addEventListener("paste", saying(async (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file) await searchByPicture(file);
}));

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

results.addEventListener("click", (event) => {
  const link = event.target.closest(".play");
  if (!link || !isPlainClick(event)) return;
  event.preventDefault();
  play(link.closest(".card"));
});

async function changeConfidence(question, method) {
  if (confirm(question)) say((await (await ask("/api/v1/labels/fit", undefined, method)).json()).message);
}
sending(document.querySelector("#fit"), () =>
  changeConfidence("Change the confidence of all searches in this library?"));
document.querySelector("#undo-fit").addEventListener("click", saying(() =>
  changeConfidence("Return to the default confidence for all searches in this library?", "DELETE")));

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
enable();
