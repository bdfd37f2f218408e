// What the pages share: requests, the status line, export, times.
export const say = (text) => {
  const line = document.querySelector("#status");
  line.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (line.textContent = ""), 6000);
};

export async function ask(address, body, method = "POST") {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  const answer = await fetch(address, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Error(problem.detail || `the server answered ${answer.status}`);
  }
  return answer;
}

// Run a handler of an event; whatever it throws is said.
export const saying = (handler) => async (event) => {
  try { await handler(event); } catch (error) { say(error.message); }
};

// Send a form through a handler. Until then its button is disabled: the browser would load another page.
export function sending(form, handler) {
  form.addEventListener("submit", saying(async (event) => {
    event.preventDefault();
    await handler();
  }));
  form.querySelector("button:not([type])").disabled = false;
}

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
