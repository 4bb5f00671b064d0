"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const one = (selector, within = document) => within.querySelector(selector);
document.documentElement.classList.add("scripted");

// Light or dark: the system's choice, unless the reader has chosen.
const theme = one("#theme"), system = matchMedia("(prefers-color-scheme: dark)");
function dark() {
  return (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
}
function showTheme() { theme.setAttribute("aria-pressed", dark()); }
try { // not every browser keeps something for a file
  const kept = localStorage.getItem("theme");
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
} catch { /* the system's choice stays */ }
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  try { localStorage.setItem("theme", document.documentElement.dataset.theme); } catch { /* as above */ }
  showTheme();
});
system.addEventListener("change", showTheme);
showTheme();

// Contents: folded on narrow screens, the sections of the notebook in sight open, the current one marked.
const fold = one("#fold"), wide = matchMedia("(min-width: 64rem)"), links = new Map(all("nav a").map((a) => [decodeURIComponent(a.hash.slice(1)), a]));
const headings = [...links.keys()].map((id) => document.getElementById(id));
function foldContents() {
  fold.open = wide.matches;
  document.documentElement.style.setProperty("--above", wide.matches ? "0px" : `${one("header").offsetHeight}px`);
}
wide.addEventListener("change", foldContents);
foldContents();
one("nav").addEventListener("click", (event) => { if (event.target.closest("a") && !wide.matches) fold.open = false; });
let current = null;
function mark() {
  const above = wide.matches ? 0 : one("header").offsetHeight, shown = headings.filter((h) => h.offsetParent);
  const passed = shown.filter((h) => h.getBoundingClientRect().top < above + 80);
  const link = links.get((passed.at(-1) || shown[0])?.id);
  if (!link || link === current) return;
  current?.removeAttribute("aria-current");
  all("nav li.open").forEach((item) => item.classList.remove("open"));
  (current = link).setAttribute("aria-current", "true");
  link.closest("nav > details > ol > li").classList.add("open");
  const column = one("header"), place = link.getBoundingClientRect();
  if (wide.matches && (place.top < 80 || place.bottom > innerHeight - 20)) column.scrollTop += place.top - innerHeight / 3;
}
let asked = 0;
addEventListener("scroll", () => { asked ||= requestAnimationFrame(() => { asked = 0; mark(); }); }, { passive: true });
addEventListener("resize", mark);
mark();

// Search: what has no match goes out of sight, matches are counted and marked.
const query = one("#query"), matches = one("#matches"), units = all(".unit"), blocks = "p, li, td, th, pre, dt, dd, h2, h3, h4, h5, h6, summary, figcaption";
let found = [], at = -1;
function read(unit) { // its text nodes, where each begins, and their text, with a line's end between blocks
  const walker = document.createTreeWalker(unit, NodeFilter.SHOW_TEXT), nodes = [], starts = [];
  let text = "", block = null;
  while (walker.nextNode()) {
    const node = walker.currentNode, inside = node.parentElement.closest(blocks);
    if (node.parentElement.closest("style, script")) continue;
    if (inside !== block) text += "\n";
    block = inside;
    nodes.push(node);
    starts.push(text.length);
    text += node.data.replace(/[\s\u00a0]/g, " ").toLowerCase();
  }
  return unit.read = { nodes, starts, text };
}
function place({ nodes, starts }, offset, last) { // the node that a character is in, and where
  let low = 0, high = nodes.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle] + (last ? 1 : 0) <= offset) low = middle; else high = middle - 1;
  }
  return [nodes[low], Math.min(offset - starts[low], nodes[low].length)];
}
function search() {
  const wanted = query.value.trim().toLowerCase().replace(/\s+/g, " "), active = wanted.length > 1;
  all("main details[data-opened]").forEach((box) => { box.open = false; delete box.dataset.opened; });
  found = [], at = -1;
  let sections = 0;
  for (const unit of units) {
    const held = active ? unit.read || read(unit) : null, before = found.length;
    for (let from = held ? held.text.indexOf(wanted) : -1; from >= 0; from = held.text.indexOf(wanted, from + wanted.length)) {
      const range = new Range();
      range.setStart(...place(held, from, false));
      range.setEnd(...place(held, from + wanted.length, true));
      found.push(range);
    }
    unit.classList.toggle("without", active && found.length === before);
    sections += found.length > before;
  }
  for (const part of all(".part")) part.classList.toggle("without", active && !one(".unit:not(.without)", part));
  for (const [id, link] of links) {
    const heading = document.getElementById(id);
    link.parentElement.classList.toggle("without", active && !!heading.closest(".without"));
  }
  for (const item of all("nav > details > ol > li")) { // a notebook stays where one of its sections does
    if (one("ol li:not(.without)", item)) item.classList.remove("without");
  }
  for (const range of found) {
    for (let box = range.startContainer.parentElement.closest("details"); box; box = box.parentElement.closest("details")) {
      if (!box.open) { box.open = true; box.dataset.opened = ""; }
    }
  }
  if (window.Highlight) {
    CSS.highlights.set("found", new Highlight(...found));
    CSS.highlights.delete("current");
  }
  matches.textContent = !query.value.trim() ? "" : !active ? "two letters at least" : !found.length ? "no match" :
    `${found.length} ${found.length === 1 ? "match" : "matches"} in ${sections} ${sections === 1 ? "section" : "sections"}; Enter goes to the next`;
  mark();
}
function go(step) {
  if (!found.length) return;
  at = (at + step + found.length) % found.length;
  if (window.Highlight) CSS.highlights.set("current", new Highlight(found[at]));
  found[at].startContainer.parentElement.scrollIntoView({ block: "center" });
  matches.textContent = `match ${at + 1} of ${found.length}`;
}
let waiting = 0;
query.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 200); });
query.addEventListener("keydown", (event) => {
  if (event.key === "Enter") go(event.shiftKey ? (at < 0 ? 0 : -1) : 1);
});

// Claims: those with a chosen verdict in a chosen scope; where nothing is chosen, all.
function filter() {
  const chosen = (of) => all(`.filter[data-of="${of}"] button[aria-pressed="true"]`).map((button) => button.textContent);
  const verdicts = chosen("verdict"), scopes = chosen("scope"), claims = all(".claims > li");
  for (const claim of claims) {
    let fits = false;
    for (const row of all("[data-scope]", claim)) {
      row.hidden = scopes.length > 0 && !scopes.includes(row.dataset.scope);
      fits ||= !row.hidden && (!verdicts.length || verdicts.includes(row.dataset.verdict));
    }
    claim.hidden = !fits;
  }
  const left = claims.filter((claim) => !claim.hidden).length;
  one("#shown").textContent = left === claims.length ? `${left} claims` : `${left} of ${claims.length} claims`;
}
for (const button of all(".filter button")) button.addEventListener("click", () => {
  button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
  filter();
});

// Figures open large; Escape closes, arrows go to the next.
const large = one("#large"), figures = all("figure");
let shownFigure = 0;
function enlarge(number) {
  shownFigure = (number + figures.length) % figures.length;
  const from = one("img", figures[shownFigure]), into = one("img", large), caption = one("figcaption", figures[shownFigure]);
  [into.src, into.alt] = [from.src, from.alt];
  one("#large-caption").textContent = caption.firstChild.textContent.trim();
  one("#large-files").replaceChildren(...all(".files", caption).map((files) => files.cloneNode(true)));
  if (!large.open) large.showModal();
}
figures.forEach((figure, number) => one(".enlarge", figure).addEventListener("click", () => enlarge(number)));
for (const button of all("[data-step]", large)) button.addEventListener("click", () => {
  if (button.dataset.step === "0") large.close(); else enlarge(shownFigure + Number(button.dataset.step));
});
large.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") enlarge(shownFigure + (event.key === "ArrowRight" ? 1 : -1));
});
large.addEventListener("click", (event) => { if (event.target === large) large.close(); });

// What scrolls sideways can be reached with the keyboard.
const seen = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const scrolls = target.scrollWidth > target.clientWidth;
    for (const [name, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", "scrolls sideways"]]) {
      if (scrolls) target.setAttribute(name, value); else target.removeAttribute(name);
    }
  }
});
all(".rendered_html, main details, .highlight pre").forEach((box) => seen.observe(box));
