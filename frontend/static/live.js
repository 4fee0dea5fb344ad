// Asks for the live part of a page again when the server says that something changed: at most once
// a second, and not while the operator is typing in it or the page is hidden. The focus stays where it
// is: on what has an id it is found again, and on anything else the page waits.
(() => {
  "use strict";
  const PAUSE = 1000;
  let last = 0;
  let due = null;

  const busy = () => {
    const focused = document.activeElement;
    return focused !== null && focused.matches("#live input, #live select, #live :not([id])");
  };

  const refresh = () => {
    due = null;
    if (document.hidden || busy()) {
      due = setTimeout(refresh, PAUSE);
      return;
    }
    last = Date.now();
    htmx.trigger("#live", "refresh");
  };

  const changed = () => {
    if (due === null) due = setTimeout(refresh, Math.max(0, last + PAUSE - Date.now()));
  };

  const say = (text) => {
    const state = document.getElementById("live-state");
    if (state !== null) state.textContent = text;
  };

  const live = document.getElementById("live");
  if (live === null) return;
  const stream = new EventSource(live.dataset.events);
  stream.addEventListener("changed", changed);
  stream.addEventListener("error", () => say("connection lost, trying again …"));
  // What is not in a pool's notices (our own rows) is asked for every so many seconds.
  const every = Number(live.dataset.every || 0);
  if (every > 0) setInterval(changed, every * 1000);
  window.addEventListener("pagehide", () => stream.close());
})();
