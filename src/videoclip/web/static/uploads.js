// Uploads of videos, by choosing or dropping files; the jobs that index them are listed below.
import { ask, enable, say, saying } from "./shared.js";

const upload = document.querySelector("#upload");
const send = saying(async (files) => {
  for (const file of files) {
    say(`Uploading ${file.name} …`);
    await ask(`/api/v1/uploads/${encodeURIComponent(file.name)}`, file, "PUT")
      .catch((error) => { throw new Error(`${file.name}: ${error.message}`); });
    htmx.ajax("GET", "/jobs", { target: "#jobs", select: "#jobs", swap: "outerHTML" });
  }
});
upload.querySelector("input").addEventListener("change", (event) => send([...event.target.files]));
for (const kind of ["dragover", "dragleave", "drop"])
  upload.addEventListener(kind, (event) => { event.preventDefault(); upload.classList.toggle("over", kind === "dragover"); });
upload.addEventListener("drop", (event) => send([...event.dataTransfer.files]));
enable();
