// Jobs with their progress, and uploads.
import { ask, clock, element, follow, say, saying } from "./shared.js";

const list = document.querySelector("#jobs");

function show(job) {
  const name = element("strong", {}, job.kind), text = element("span"), bar = element("progress", { "aria-label": "Progress" });
  const cancel = element("button", { type: "button" }, "Cancel"), failed = element("ul");
  const item = element("li", {}, name, " ", text, bar, cancel, failed);
  list.prepend(item);
  const update = (status) => {
    const left = status.seconds_left === null ? "" : `, ${clock(status.seconds_left)} left`;
    const count = status.total ? ` ${status.done} of ${status.total}${left}` : "";
    text.textContent = `${status.state}${count} ${status.message}`;
    if (status.total) { bar.max = status.total; bar.value = status.done; }
    bar.hidden = cancel.hidden = ["done", "failed", "cancelled"].includes(status.state);
    failed.replaceChildren(...Object.entries(status.failed).map(([file, reason]) => element("li", { class: "problem" }, `${file}: ${reason}`)));
  };
  cancel.addEventListener("click", saying(() => ask(`/api/v1/jobs/${job.id}`, undefined, "DELETE")));
  update(job);
  if (!cancel.hidden) follow(job, update);
}

async function showAll() {
  const jobs = await (await ask("/api/v1/jobs", undefined, "GET")).json();
  jobs.items.reverse().forEach(show);
}
const index = document.querySelector("#index");
index?.addEventListener("click", saying(async () => {
  show(await (await ask("/api/v1/jobs", { kind: "index" })).json());
}));
// Disabled until the earlier jobs are listed: a new one stands above them.
if (list?.hasAttribute("data-all")) saying(showAll)().finally(() => { if (index) index.disabled = false; });

const upload = document.querySelector("#upload");
async function send(files) {
  for (const file of files) {
    say(`Uploading ${file.name} …`);
    const answer = await fetch(`/api/v1/uploads/${encodeURIComponent(file.name)}`, { method: "PUT", body: file });
    const content = await answer.json();
    if (!answer.ok) throw new Error(`${file.name}: ${content.detail}`);
    show(content);
  }
}
upload?.querySelector("input").addEventListener("change", saying((event) => send(event.target.files)));
for (const kind of ["dragover", "dragleave", "drop"])
  upload?.addEventListener(kind, (event) => { event.preventDefault(); upload.classList.toggle("over", kind === "dragover"); });
upload?.addEventListener("drop", saying((event) => send(event.dataTransfer.files)));
