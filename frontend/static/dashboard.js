// What a tenant's pages do beyond their links and forms; they work without it, only less well.
(() => {
  "use strict";
  const PERIOD = 3000;

  // A form that was sent is not sent again by an impatient second press. One that is shown again from
  // the browser's memory may be.
  const sent = new WeakSet();
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post") return;
    if (sent.has(event.target)) event.preventDefault();
    else sent.add(event.target);
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) window.location.reload();
  });

  // Output is asked for while somebody can see it. Who reads its end goes on reading its end.
  const output = () => document.getElementById("output");
  const lines = () => document.getElementById("output-lines");
  const toTheEnd = () => {
    const list = lines();
    if (list !== null) list.scrollTop = list.scrollHeight;
  };
  if (output() === null) return;

  let isAtItsEnd = true;
  let place = 0;
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    const list = lines();
    if (event.detail.target !== output() || list === null) return;
    place = list.scrollTop;
    isAtItsEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 8;
  });
  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id !== "output" && event.detail.elt.id !== "output") return;
    if (isAtItsEnd) toTheEnd();
    else if (lines() !== null) lines().scrollTop = place;
  });
  setInterval(() => {
    const selection = window.getSelection();
    const isBeingCopied = !selection.isCollapsed && output().contains(selection.anchorNode);
    if (!document.hidden && !isBeingCopied) htmx.trigger("#output", "look");
  }, PERIOD);
  toTheEnd();
})();
