
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const checks = new Map(data.checks.map(each => [each.id, each]));
  const FIRST = 8, MORE = 200, BATCH = 60;
  const state = { text: "", stage: "", verdicts: new Set(), view: "check", cause: -1, more: new Map() };
  const list = document.getElementById("list");

  // an element: attributes that are functions are listeners; text never becomes markup
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") element.addEventListener(name, value);
      else if (value !== false && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children.filter(each => each !== "" && each !== null && each !== undefined));
    return element;
  }
  const slug = word => word.replace(" ", "-");

  // --- copying ---------------------------------------------------------------------------------

  async function copy(button) {
    const text = button.dataset.copy;
    try { await navigator.clipboard.writeText(text); }
    catch {
      const area = make("textarea", { readonly: "" });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = button.dataset.label || "Copy"; }, 1500);
  }
  document.addEventListener("click", event => {
    const button = event.target.closest(".copy");
    if (button) copy(button);
  });
  const copier = (text, label = "Copy") =>
    make("button", { type: "button", class: "copy", "data-copy": text, "data-label": label }, label);

  function waiver(finding) {
    const day = new Date(`${data.day || new Date().toISOString().slice(0, 10)}T00:00:00Z`);
    day.setUTCDate(day.getUTCDate() + 14);
    const about = Object.entries(finding.about).map(([name, value]) => `${JSON.stringify(name)} = ${JSON.stringify(literal(value))}`);
    return ["[[waiver]]", `check = ${JSON.stringify(finding.check)}`, `subject = ${JSON.stringify(literal(finding.object))}`,
      ...(finding.problem ? [`problem = ${JSON.stringify(literal(finding.problem))}`] : []),
      ...(about.length ? [`about = { ${about.map(each => each).join(", ")} }`] : []),
      'reason = ""  # why this is acceptable; an empty reason is an error', `until = ${day.toISOString().slice(0, 10)}`, ""].join("\n");
  }
  // a waiver's texts are globs
  const literal = text => text.replace(/[\\*?]/g, "\\$&");

  // --- what is shown ---------------------------------------------------------------------------

  for (const each of data.findings) {
    each.stage = checks.get(each.check).stage;
    each.words = [each.check, each.subject, each.object, each.seen, each.expected, each.remedy, each.suppression, each.problem,
      ...Object.values(each.about)].join("\n").toLowerCase();
  }
  for (const each of data.checks)
    each.words = [each.id, each.title, each.failure, each.why, each.stage].join("\n").toLowerCase();
  const ORDER = ["failed", "unknown", "warning", "suppressed", "passed", "not run"];
  const rank = word => ORDER.indexOf(word);
  const causeOf = new Map();
  data.causes.forEach((cause, number) => cause.checks.forEach(id => causeOf.has(id) || causeOf.set(id, number)));

  const wanted = (each, verdict, cause) =>
    (!state.stage || each.stage === state.stage) && (!state.verdicts.size || state.verdicts.has(verdict))
    && (state.cause < 0 || cause === state.cause)
    && state.text.split(/\s+/).every(word => each.words.includes(word));

  // one item for each heading, finding and button, drawn a part at a time
  function items() {
    const findings = data.findings.filter(each => wanted(each, each.verdict, each.cause));
    return state.view === "object" ? byObject(findings) : byCheck(findings);
  }

  function byCheck(findings) {
    const found = new Map();
    for (const each of findings) {
      const key = `${each.verdict}|${each.check}`;
      found.has(key) ? found.get(key).push(each) : found.set(key, [each]);
    }
    const groups = [...found].map(([key, rows]) => ({ key, rows, check: checks.get(rows[0].check), verdict: rows[0].verdict }));
    const bare = data.checks.filter(each => !data.findings.some(row => row.check === each.id && row.verdict === each.verdict)
      && wanted(each, each.verdict, state.cause < 0 ? -1 : data.causes[state.cause].checks.includes(each.id) ? state.cause : -2));
    for (const check of bare) groups.push({ key: `${check.verdict}|${check.id}`, rows: [], check, verdict: check.verdict });
    const first = group => group.verdict === "failed" || group.verdict === "unknown" ? causeOf.get(group.check.id) ?? 99 : 0;
    const serious = word => (word === "unknown" ? 0 : rank(word));
    groups.sort((a, b) => serious(a.verdict) - serious(b.verdict) || first(a) - first(b));
    // passes are counts until they are requested
    const hides = word => !state.text && !state.verdicts.size && !state.more.has(word) && (word === "passed" || word === "not run");
    const shown = groups.filter(group => !hides(group.verdict));
    const counts = ["passed", "not run"].filter(hides).map(word => [word, groups.filter(group => group.verdict === word).length]);
    return [...shown.flatMap(group => [{ draw: () => checkHeading(group) }, ...rowsOf(group.key, group.rows, false)]),
      ...counts.filter(([, number]) => number).map(([word, number]) => {
        const more = () => { state.more.set(word, 1); redraw(); };
        return { draw: () => make("button", { type: "button", class: "more", click: more }, `Show ${number} ${word === "passed" ? "passed checks" : "checks that did not run"}`) };
      })];
  }

  function byObject(findings) {
    const found = new Map();
    for (const each of findings) found.has(each.object) ? found.get(each.object).push(each) : found.set(each.object, [each]);
    const worst = rows => Math.min(...rows.map(each => rank(each.verdict)));
    const groups = [...found].map(([object, rows]) => ({ object, rows, worst: worst(rows) }));
    groups.sort((a, b) => a.worst - b.worst || b.rows.length - a.rows.length || (a.object < b.object ? -1 : 1));
    return groups.flatMap(({ object, rows, worst }) => [
      { draw: () => make("div", { class: `group ${slug(ORDER[worst])}` }, make("span", { class: "tag" }, String(rows.length)), make("h3", {}, object)) },
      ...rowsOf(object, rows.sort((a, b) => rank(a.verdict) - rank(b.verdict)), true)]);
  }

  function rowsOf(key, rows, named) {
    const shown = state.more.get(key) || FIRST;
    const result = rows.slice(0, shown).map(finding => ({ finding, draw: () => row(finding, named) }));
    const rest = rows.length - shown;
    if (rest > 0) {
      const step = Math.min(rest, MORE);
      const more = () => { state.more.set(key, shown + MORE); redraw(); };
      result.push({ draw: () => make("button", { type: "button", class: "more", click: more }, `Show ${step} more (${rest} not shown)`) });
    }
    return result;
  }

  function checkHeading({ rows, check, verdict }) {
    const failed = verdict === "failed";
    const minor = !rows.length && (verdict === "passed" || verdict === "not run");
    const others = failed || verdict === "unknown" ? (data.causes[causeOf.get(check.id)]?.checks || []).filter(id => id !== check.id) : [];
    const same = others.length ? `Same cause: ${others.join(", ")}` : "";
    const why = !rows.length && check.why ? check.why : "";
    const notes = [rows.length > 1 ? `${rows.length} findings` : "", check.basis && !why ? `based on ${check.basis}` : "", same, why];
    const box = make("div", { class: `group ${slug(verdict)} ${minor ? "minor" : ""}`, id: rows.length || !["failed", "unknown"].includes(verdict) ? false : `check-${check.id}` },
      make("span", { class: "tag" }, verdict), make("span", { class: "id" }, check.id), make("h3", {}, failed ? check.failure : `${verdict === "unknown" ? "could not verify: " : ""}${check.title}`),
      make("p", { class: "quiet" }, notes.filter(Boolean).join(" · ")));
    if (!rows.length && check.remedy) box.append(remedy(check.remedy));
    if (check.page) {
      const about = make("details", { class: "about", toggle: () => {
        if (!about.open || about.children.length > 1) return;
        const doc = make("div", { class: "doc" });
        doc.innerHTML = check.page;  // made from the project's own pages, without raw HTML
        for (const link of doc.querySelectorAll("a")) if (!/^https?:/.test(link.getAttribute("href"))) link.replaceWith(...link.childNodes);
        about.append(doc);
      } }, make("summary", {}, `About ${check.id}: what it proves, and how to fix it`));
      box.append(about);
    }
    return box;
  }

  const command = /^(kubectl|istioctl|meshgate|helm|pytest|argocd) /;
  const remedy = text => (command.test(text) ? make("span", { class: "remedy" }, make("code", {}, text), copier(text)) : make("span", {}, text));

  function row(finding, named) {
    const summary = make("summary", {}, make("b", {}, named ? [finding.check, finding.verdict === "failed" ? checks.get(finding.check).failure : finding.verdict].join(" ") : finding.subject),
      make("span", { class: "seen" }, finding.seen), finding.new ? make("i", { class: "badge" }, "new") : "");
    const box = make("details", { class: `row ${slug(finding.verdict)}`, id: finding.anchor, toggle: () => { if (box.open && !box.querySelector("dl")) box.append(body(finding)); } }, summary);
    return box;
  }

  function body(finding) {
    const link = make("a", { href: `#${finding.anchor}` }, `#${finding.anchor}`);
    const rows = [["object", finding.subject], ["owner", finding.object === finding.subject ? "" : finding.object], ["suppressed", finding.suppression],
      ["problem", finding.seen], ["expected", finding.expected],
      ...Object.entries(finding.about), ["fix", finding.remedy && remedy(finding.remedy)],
      ["link", make("span", { class: "remedy" }, link, copier(location.href.split("#")[0] + `#${finding.anchor}`, "Copy link"))]];
    const box = make("dl", {});
    for (const [name, value] of rows) if (value) box.append(make("dt", {}, name), make("dd", {}, value));
    if (finding.verdict === "failed")
      box.append(make("dt", { class: "waiver" }, "waiver"), make("dd", { class: "waiver" }, make("pre", {}, waiver(finding)), copier(waiver(finding), "Copy waiver")));
    return box;
  }

  // --- drawing ---------------------------------------------------------------------------------

  let queue = [], drawn = 0;
  const sentinel = make("div", { "aria-hidden": "true" });
  const watch = new IntersectionObserver(seen => { if (seen.some(each => each.isIntersecting)) draw(BATCH); }, { rootMargin: "1500px" });

  function draw(count) {
    const part = document.createDocumentFragment();
    for (const end = Math.min(drawn + count, queue.length); drawn < end; drawn++) part.append(queue[drawn].draw());
    sentinel.before(part);
    if (drawn < queue.length) { watch.unobserve(sentinel); watch.observe(sentinel); } else watch.unobserve(sentinel);
  }

  function redraw() {
    const before = scrollY;
    const done = drawn;
    queue = items();
    drawn = 0;
    list.replaceChildren(sentinel);
    draw(Math.max(BATCH, Math.min(done, 2000)));
    const shown = data.findings.filter(each => wanted(each, each.verdict, each.cause)).length;
    const filtered = state.text || state.stage || state.verdicts.size || state.cause >= 0;
    const note = document.getElementById("shown");
    note.replaceChildren(filtered ? `${shown.toLocaleString("en")} of ${data.findings.length.toLocaleString("en")} findings ` : "");
    if (filtered) note.append(make("button", { type: "button", class: "copy", click: clear }, "Clear filters"));
    if (!queue.length) list.prepend(make("p", { class: "quiet" }, "Nothing matches."));
    for (const button of document.querySelectorAll("[data-stage]")) button.setAttribute("aria-pressed", String(button.dataset.stage === state.stage));
    for (const button of document.querySelectorAll("[data-verdict]")) button.setAttribute("aria-pressed", String(state.verdicts.has(button.dataset.verdict)));
    for (const button of document.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", String(state.view === button.dataset.view));
    scrollTo(scrollX, before);
  }

  function clear() {
    Object.assign(state, { text: "", stage: "", cause: -1 });
    state.verdicts.clear();
    document.getElementById("search").value = "";
    redraw();
  }

  const results = document.getElementById("results");
  let timer = 0;
  document.getElementById("search").addEventListener("input", event => {
    clearTimeout(timer);
    timer = setTimeout(() => { state.text = event.target.value.trim().toLowerCase(); drawn = 0; redraw(); }, 120);
  });
  document.addEventListener("click", event => {
    const { stage, verdict, view, cause } = event.target.closest("[data-stage],[data-verdict],[data-view],[data-cause]")?.dataset || {};
    drawn = stage || verdict || view ? 0 : drawn;
    if (stage) { state.stage = state.stage === stage ? "" : stage; redraw(); results.scrollIntoView(); }
    else if (verdict) { state.verdicts.delete(verdict) || state.verdicts.add(verdict); redraw(); }
    else if (view) { state.view = view; redraw(); }
    else if (cause) { event.preventDefault(); clear(); state.cause = Number(cause); drawn = 0; redraw(); results.scrollIntoView(); openFirst(); }
  });

  function openFirst() {
    const first = list.querySelector("details.row");
    if (first) first.open = true;
  }

  for (const button of document.querySelectorAll("[data-verdict]")) {
    const word = button.dataset.verdict;
    const count = data.findings.filter(each => each.verdict === word).length
      + data.checks.filter(each => each.verdict === word && !data.findings.some(row => row.check === each.id && row.verdict === word)).length;
    button.querySelector("i").textContent = count.toLocaleString("en");
    button.hidden = !count;
  }

  // a link to one finding: it is drawn, opened and scrolled to
  function follow() {
    const anchor = decodeURIComponent(location.hash.slice(1));
    const finding = data.findings.find(each => each.anchor === anchor);
    if (!finding) return;
    Object.assign(state, { text: "", stage: "", cause: -1, view: "check" });
    state.verdicts.clear();
    const rows = data.findings.filter(each => each.check === finding.check && each.verdict === finding.verdict);
    const place = rows.indexOf(finding) + 1, key = `${finding.verdict}|${finding.check}`;
    if (place > (state.more.get(key) || FIRST)) state.more.set(key, place);
    redraw();
    draw(queue.findIndex(each => each.finding === finding) + BATCH - drawn);
    const box = document.getElementById(anchor);
    document.querySelectorAll(".found").forEach(each => each.classList.remove("found"));
    box.classList.add("found");
    box.open = true;
    box.scrollIntoView({ block: "center" });
  }
  addEventListener("hashchange", follow);

  // paper shows what clicks would, up to a thousand items
  addEventListener("beforeprint", () => {
    draw(1000);
    for (const each of [...document.querySelectorAll("details.row")].slice(0, 1000)) { each.open = true; if (!each.querySelector("dl")) each.append(body(data.findings.find(f => f.anchor === each.id))); }
  });

  // --- the rest of the page --------------------------------------------------------------------

  function table(names, rows) {
    return make("table", {}, make("thead", {}, make("tr", {}, ...names.map(name => make("th", { scope: "col" }, name)))),
      make("tbody", {}, ...rows.map(([first, ...cells]) => make("tr", {}, make("th", { scope: "row" }, first), ...cells.map(each => make("td", {}, each))))));
  }

  if (data.mesh) {
    const { replicas, proxies, states } = data.mesh;
    const bars = proxies.map(({ version, counts }) => {
      const words = states.map((name, number) => counts[number] ? `${counts[number]} ${name}` : "").filter(Boolean).join(", ");
      const track = make("div", { class: "track", role: "img", "aria-label": words });
      counts.forEach((count, number) => { if (count) { const part = make("span", { class: `s${number}`, title: `${count} ${states[number]}` }); part.style.flexGrow = count; track.append(part); } });
      return [version, String(counts.reduce((sum, each) => sum + each, 0)), make("div", {}, words, track)];
    });
    document.querySelector("#mesh > div").append(
      table(["istiod", "version", "proxies", "state"], replicas.map(each => [each.pod, each.version || "–", each.proxies,
        make("span", { class: each.state === "Ready" ? "ok" : "bad" }, each.state)])), make("br"),
      table(["proxies of version", "number", "state"], bars),
      make("p", { class: "legend" }, ...states.map((name, number) => make("span", {}, make("i", { class: `key s${number}` }), name))));
    document.getElementById("mesh").hidden = false;
  }

  const changes = document.getElementById("changes");
  if (!data.baseline) changes.append(make("p", { class: "quiet" }, "Not compared with a baseline: every finding counts as new."));
  else {
    const fresh = data.findings.filter(each => each.new), { resolved, known, taken, target } = data.baseline;
    changes.append(make("p", {}, `${fresh.length} new, ${known} pre-existing, ${resolved.length} resolved.${taken ? ` The baseline is of ${taken}` + (target ? `, evaluated against ${target}.` : ".") : ""}`));
    const lines = [...fresh.map(each => ["new", "bad", `${each.check} ${each.subject}: ${each.seen}`]), ...resolved.map(each => ["resolved", "ok", each])];
    changes.append(make("ul", {}, ...lines.slice(0, 100).map(([word, tone, text]) => make("li", {}, make("b", { class: tone }, word), ` ${text}`))));
    if (lines.length > 100) changes.append(make("p", { class: "quiet" }, `and ${lines.length - 100} more`));
  }

  if (data.events.length) {
    const { events } = data, steps = events.map((each, number) => ({ ...each, took: Math.max((events[number + 1]?.ms ?? each.ms) - each.ms, 0) }));
    const longest = Math.max(...steps.map(each => each.took), 1);
    document.querySelector(".timeline").append(...steps.map(each => {
      const meter = make("span", { class: "meter" });
      meter.style.width = `${(100 * each.took) / longest}%`;
      return make("li", {}, make("time", {}, each.at), make("div", {}, each.words, meter), make("span", { class: "took" }, each.took >= 100 ? `${(each.took / 1000).toFixed(1)} s` : ""));
    }));
    document.getElementById("timeline").hidden = false;
  }

  if (data.upgrade.length) {
    document.querySelector(".upgrade").append(...data.upgrade.map(each => make("li", {}, make("time", {}, each.at),
      make("div", each.lost ? { class: "bad" } : {}, each.words), make("span", { class: "took" }, each.seconds ? `${each.seconds} s` : ""))));
    document.getElementById("upgrade").hidden = false;
  }

  redraw();
  follow();
})();
