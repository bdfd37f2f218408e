// What the pages share: requests, the status line, export, times.
export const say = (text) => {
  const line = document.querySelector("#status");
  line.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (line.textContent = ""), 6000);
};

// Why a request of htmx was refused: scripts get a problem in JSON.
export const reason = ({ status, responseText }) => {
  try { return JSON.parse(responseText).detail; } catch { return `The server answered ${status}.`; }
};
addEventListener("htmx:responseError", ({ detail }) => say(reason(detail.xhr)));
addEventListener("htmx:sendError", () => say("The server does not answer."));

// Send a value as JSON, or a Blob as it is.
export async function ask(address, body, method = "POST") {
  const isFile = body instanceof Blob;
  const answer = await fetch(address, {
    method,
    headers: isFile ? {} : { "Content-Type": "application/json" },
    body: isFile ? body : JSON.stringify(body),
  }).catch(() => { throw new Error("The server does not answer."); });
  if (!answer.ok) throw new Error(reason({ status: answer.status, responseText: await answer.text() }));
  return answer;
}

// Run a handler of an event; whatever it throws is said.
export const saying = (handler) => async (event) => {
  try { await handler(event); } catch (error) { say(error.message); }
};

// Send a form through a handler.
export const sending = (form, handler) => form.addEventListener("submit", saying((event) => {
  event.preventDefault();
  return handler();
}));

// Enable what only a script can do; each script calls it when all its handlers are there.
export const enable = () => {
  for (const one of document.querySelectorAll("[data-script]")) one.disabled = one.inert = false;
};

// Whether a click on a link is for this page, and not for another tab.
export const isPlainClick = (event) => !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);

export const clock = (seconds) => {
  const tenths = Math.round(seconds * 10), minutes = Math.floor(tenths / 600);
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
};

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

export function follow(job, onStatus) {
  return new Promise((resolve) => {
    const events = new EventSource(`/api/v1/jobs/${job.id}/events`);
    events.addEventListener("status", (event) => {
      const status = JSON.parse(event.data);
      onStatus(status);
      if (["done", "failed", "cancelled"].includes(status.state)) { events.close(); resolve(status); }
    });
  });
}

// The form #export sends the spans that `collect` returns.
export function exporting(collect) {
  const form = document.querySelector("#export");
  if (!form) return;
  sending(form, async () => {
    const moments = collect(), format = form.elements.format.value;
    if (!moments.length) return say("Nothing is selected.");
    const answer = await ask("/api/v1/export", { format, moments });
    if (answer.status !== 202)
      return save(await answer.blob(), `moments.${format === "youtube" ? "txt" : format}`);
    const job = await follow(await answer.json(), (s) => say(`Cutting clips: ${s.done} of ${s.total}`));
    if (!job.has_result) throw new Error(job.message);
    const failed = Object.entries(job.failed).map(([name, reason]) => `${name}: ${reason}`);
    location.assign(`/api/v1/jobs/${job.id}/result`);
    say([job.message, ...failed].join("; "));
  });
}

// Call the handler of a key unless the user is typing.
export function keys(handlers) {
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input:not([type=checkbox], [type=radio], [type=range]), textarea, select");
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || !handlers[event.key]) return;
    event.preventDefault();
    handlers[event.key]();
  });
}
