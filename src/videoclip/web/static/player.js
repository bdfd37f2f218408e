// <moment-player>: plays a video, or exactly one span of it in a loop. A .strip in it is its timeline: it shows the time,
// and a pointer or the arrow keys move it.
// Attributes: media, clip (addresses), playback, duration, start, end, frame-rate. Event: "time".
import { clock } from "./shared.js";

// Where a pointer is on a strip, from 0 to 1.
export const share = (event) => {
  const box = event.currentTarget.getBoundingClientRect();
  return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
};

class MomentPlayer extends HTMLElement {
  connectedCallback() {
    this.video = document.createElement("video");
    Object.assign(this.video, { controls: true, playsInline: true, preload: "metadata" });
    this.video.setAttribute("aria-label", "Video");
    this.prepend(this.video);
    const strip = this.querySelector(".strip");
    if (strip) this.follow(strip);
    this.loops = true;
    this.offset = 0; // seconds of the video at which the file being played starts
    this.video.addEventListener("error", () => this.fallBack());
    this.video.addEventListener("ended", () => this.end !== null && this.loops && this.restart());
    this.video.addEventListener("seeking", () => this.report());
    this.span(this.number("start") ?? 0, this.number("end"));
    const watch = () => {
      if (!this.isConnected) return;
      if (this.end !== null && !this.video.paused && this.time >= this.end - 0.5 / this.rate) {
        if (this.loops) this.restart();
        else { this.video.pause(); this.end = null; }
      }
      this.report();
      if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(watch);
      else setTimeout(watch, 30);
    };
    watch();
    this.video.addEventListener("timeupdate", () => this.report());
  }
  number(name) { return this.hasAttribute(name) ? Number(this.getAttribute(name)) : null; }
  get rate() { return this.number("frame-rate") || 25; }
  get time() { return this.video.currentTime + this.offset; }
  get clips() { return this.getAttribute("playback") === "transcode"; }
  span(start, end) { // show a span; end null: play on from the start
    this.start = start;
    this.end = end;
    if (this.clips) {
      const last = end ?? Math.min(start + 60, this.number("duration") ?? start + 60);
      this.offset = start;
      this.video.src = `${this.getAttribute("clip")}?start=${start}&end=${Math.min(last, start + 300)}`;
    } else if (!this.video.src) {
      this.video.src = this.getAttribute("media") + (start ? `#t=${start}` : "");
      this.video.addEventListener("loadedmetadata", () => this.seek(this.start), { once: true });
    } else this.seek(start);
  }
  fallBack() { // a file that this browser cannot play: ask for encoded clips
    if (this.clips || !this.hasAttribute("clip")) return;
    this.setAttribute("playback", "transcode");
    this.span(this.start, this.end);
    if (this.isWanted) this.play();
  }
  play() {
    this.isWanted = true;
    this.video.play().catch(() => {}); // an error of the file ends in `fallBack`
  }
  restart() {
    this.video.currentTime = this.start - this.offset;
    this.play();
  }
  seek(time) {
    const inside = time - this.offset;
    if (this.clips && (inside < 0 || inside > (this.video.duration || Infinity))) this.span(time, null);
    else this.video.currentTime = Math.max(0, inside);
  }
  go(time) { // play on from a time, whatever span was shown
    this.end = null;
    this.seek(Math.min(Math.max(time, 0), this.number("duration")));
  }
  follow(strip) {
    const duration = this.number("duration"), now = strip.querySelector(".now");
    this.addEventListener("time", ({ detail }) => {
      const x = String(Math.min(1, detail / duration) * 1000);
      now.setAttribute("x1", x);
      now.setAttribute("x2", x);
      strip.setAttribute("aria-valuenow", detail.toFixed(1));
      strip.setAttribute("aria-valuetext", clock(detail));
    });
    const goTo = (event) => this.go(share(event) * duration);
    strip.addEventListener("pointerdown", (event) => { strip.setPointerCapture(event.pointerId); goTo(event); });
    strip.addEventListener("pointermove", (event) => event.buttons && goTo(event));
    strip.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageDown: -10, PageUp: 10 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.go(this.time + step);
    });
  }
  step(frames) { this.video.pause(); this.seek(this.time + frames / this.rate); }
  toggle() { this.video.paused ? this.play() : this.video.pause(); }
  report() { this.dispatchEvent(new CustomEvent("time", { detail: this.time })); }
}
customElements.define("moment-player", MomentPlayer);
