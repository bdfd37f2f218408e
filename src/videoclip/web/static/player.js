// <moment-player>: plays a video, or exactly one span of it in a loop.
// Attributes: media, clip (addresses), playback, duration, start, end, frame-rate. Event: "time".
class MomentPlayer extends HTMLElement {
  connectedCallback() {
    this.video = document.createElement("video");
    Object.assign(this.video, { controls: true, playsInline: true, preload: "metadata" });
    this.video.setAttribute("aria-label", "Video");
    this.append(this.video);
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
  step(frames) { this.video.pause(); this.seek(this.time + frames / this.rate); }
  toggle() { this.video.paused ? this.play() : this.video.pause(); }
  report() { this.dispatchEvent(new CustomEvent("time", { detail: this.time })); }
}
customElements.define("moment-player", MomentPlayer);
