// What the console's pages do beyond forms and live fragments: local times, the chart, and a warning when they are old.
"use strict";

const SILENT_MS = 10_000;
const CHART_MS = 10_000;
const CHART_HEIGHT = 240;

// Adds the time in the browser's zone before the time in UTC, unless both are the same.
function localize(root) {
  for (const element of root.querySelectorAll("time[datetime]:not([data-local])")) {
    const at = new Date(element.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    element.dataset.local = "";
    if (at.getTimezoneOffset() === 0) continue;
    const local = at.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
    element.textContent = `${local} (${element.textContent})`;
  }
}

// Says so when no message has come for a while: the figures are old then.
function watch(live) {
  const notice = document.getElementById("silent");
  let heard = performance.now();
  document.addEventListener("htmx:sse:before:message", () => { heard = performance.now(); });
  document.addEventListener("htmx:sse:after:message", () => localize(live));
  document.addEventListener("htmx:sse:error", (event) => {
    if (event.detail.status === 200 || event.detail.status === undefined) return;
    location.reload(); // the session has ended, or the page is none any more
  });
  document.addEventListener("visibilitychange", () => { heard = performance.now(); });
  setInterval(() => { notice.hidden = document.hidden || performance.now() - heard < SILENT_MS; }, 1000);
}

// Holds a live page: what comes meanwhile is not shown.
function hold(button) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const held = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", held);
  });
  document.addEventListener("htmx:sse:before:message", (event) => {
    if (button.getAttribute("aria-pressed") === "true") event.preventDefault();
  });
}

// Keeps boxes of groups and channels in step with those below, and shows how many events came of each type.
function tick(root) {
  const below = (box) => [...box.closest(".branch").querySelectorAll("input[data-leaf]:not(:disabled)")]
    .filter((one) => box.name !== "events.all" || one.dataset.apart === undefined);
  const show = () => {
    for (const box of root.querySelectorAll("input[data-branch]")) {
      const leaves = below(box);
      if (leaves.length === 0) continue; // it stays as it is shown, or as the user has changed it
      const ticked = leaves.filter((one) => one.checked).length;
      box.indeterminate = ticked > 0 && ticked < leaves.length;
      box.checked = ticked > 0 && (ticked === leaves.length || box.defaultChecked);
    }
    for (const one of root.querySelectorAll("[data-ticked]")) {
      one.textContent = one.closest(".branch").querySelectorAll("input[data-leaf]:checked").length;
    }
  };
  root.addEventListener("change", ({ target }) => {
    if (target.dataset.branch !== undefined) for (const one of below(target)) one.checked = target.checked;
    show();
  });
  show();
  fetch(root.dataset.counts).then((answer) => answer.json()).then((counts) => {
    for (const one of root.querySelectorAll("[data-count]")) {
      one.textContent = `${(counts[one.dataset.count] ?? 0).toLocaleString()} in the last 24 hours`;
    }
  }).catch(() => { /* no relay runs: there are no counts */ });
}

// Shows that a form is under way, and sends it once. A page that comes back from history can send again.
function send(event) {
  if (event.submitter?.name !== "act") return;
  if (event.target.querySelector("[aria-busy]")) event.preventDefault();
  else event.submitter.setAttribute("aria-busy", "true");
}

function calm() {
  for (const one of document.querySelectorAll("button[aria-busy]")) one.removeAttribute("aria-busy");
}

const lastHour = () => [Date.now() / 1000 - 3600, Date.now() / 1000];

async function draw(chart) {
  chart.hidden = false; // without a script there is the table of figures
  const style = getComputedStyle(document.documentElement);
  const text = style.getPropertyValue("--pico-color").trim();
  const grid = style.getPropertyValue("--pico-muted-border-color").trim();
  const axis = { stroke: text, grid: { stroke: grid }, ticks: { stroke: grid } };
  const width = () => Math.max(chart.clientWidth, 200);
  const plot = new uPlot({
    width: width(), height: CHART_HEIGHT, axes: [axis, axis],
    scales: { x: { range: lastHour }, y: { range: (plot, least, most) => [0, Math.max(most, 1) * 1.05] } },
    series: [
      {},
      { label: "accepted/s", stroke: text, width: 2 },
      { label: "delivered/s by all connectors", stroke: style.getPropertyValue("--pico-primary").trim(), width: 2, dash: [6, 4] },
    ],
  }, [[], [], []], chart);
  addEventListener("resize", () => plot.setSize({ width: width(), height: CHART_HEIGHT }));
  const load = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(chart.dataset.source);
      if (answer.ok && !answer.redirected) plot.setData(await answer.json());
    } catch { /* the console does not answer: the page says it */ }
  };
  await load();
  setInterval(load, CHART_MS);
}

document.addEventListener("submit", send);
addEventListener("pageshow", calm);
document.addEventListener("DOMContentLoaded", () => {
  localize(document);
  const live = document.getElementById("live");
  if (live) watch(live);
  const button = document.getElementById("hold");
  if (live && button) hold(button);
  const ticks = document.getElementById("ticks");
  if (ticks) tick(ticks);
  const chart = document.getElementById("chart");
  if (chart) draw(chart);
});
