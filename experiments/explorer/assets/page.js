// The page: fields and sliders, drawing, the address, files dropped on it.
"use strict";

const explorer = (() => {
  const SLIDER = 1000; // positions of a slider
  const element = (id) => document.getElementById(id);
  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes))
      if (name === "class") node.className = value;
      else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value);
    node.append(...children);
    return node;
  };

  if (facts.counts) laws.addCounts(facts.counts.name, countFiles.embedded(facts.counts));

  let texts = states.fromAddress(location.hash);
  let model = null; // of the last state without a problem
  const controls = {};
  const panels = new Map();

  // Fields

  /** A slider's position of a value, and the value of a position; zero stands left of the range. */
  function scale({ slider: [low, high], zero, kind }) {
    const first = zero ? SLIDER / 20 : 0;
    return {
      position: (value) => (value < low && zero ? 0
        : Math.round(first + (SLIDER - first) * Math.min(Math.max(Math.log(value / low) / Math.log(high / low), 0), 1))),
      value(position) {
        if (zero && position < first) return 0;
        const value = low * (high / low) ** ((position - first) / (SLIDER - first));
        return kind === "integer" ? Math.round(value < 100 ? value : Number(value.toPrecision(3)))
          : Number(value.toPrecision(3));
      },
    };
  }

  function sliderField(field) {
    const of = scale(field);
    const text = make("input", { type: "text", id: field.name, inputmode: field.kind === "integer" ? "numeric" : "decimal",
      "aria-describedby": `${field.name}-meaning` });
    const slider = make("input", { type: "range", min: 0, max: SLIDER, step: 1, "aria-label": field.label });
    const meaning = make("p", { class: "meaning", id: `${field.name}-meaning` });
    text.addEventListener("input", () => change(field.name, text.value));
    slider.addEventListener("input", () => change(field.name, String(of.value(Number(slider.value)))));
    const show = (given, problem) => {
      if (text.value !== given) text.value = given;
      const value = Number(given);
      if (given !== "" && value >= 0 && document.activeElement !== slider) slider.value = of.position(value);
      slider.setAttribute("aria-valuetext", value === 0 && field.zero ? field.zero : given);
      wrong(text, meaning, problem, value === 0 && field.zero ? field.zero : field.meaning);
    };
    controls[field.name] = { show, text, slider, of };
    return make("div", { class: "field" },
      make("div", { class: "row" }, make("label", { for: field.name }, field.label), text), slider, meaning);
  }

  function wrong(input, meaning, problem, otherwise) {
    input.setAttribute("aria-invalid", Boolean(problem));
    meaning.classList.toggle("wrong", Boolean(problem));
    meaning.textContent = problem ?? otherwise;
  }

  function choiceField(field) {
    const select = make("select", { id: field.name, "aria-describedby": `${field.name}-meaning` },
      ...field.choices.map(([value, label]) => make("option", { value }, label)));
    const meaning = make("p", { class: "meaning", id: `${field.name}-meaning` });
    select.addEventListener("change", () => change(field.name, select.value));
    controls[field.name] = { show(given, problem) {
      select.value = given;
      wrong(select, meaning, problem, field.meaning);
    } };
    return make("div", { class: "field half" },
      make("div", { class: "row" }, make("label", { for: field.name }, field.label), select), meaning);
  }

  /** The token law: uniform, a Zipf exponent with its slider, or counts of a file. */
  function tokensField(field) {
    const select = make("select", { id: "tokens", "aria-describedby": "tokens-meaning" });
    const exponent = make("input", { type: "text", id: "zipf", inputmode: "decimal", "aria-label": "Zipf exponent",
      "aria-describedby": "tokens-meaning" });
    const slider = make("input", { type: "range", min: 0, max: 2, step: 0.01, value: 1, id: "zipf-slider", "aria-label": "Zipf exponent" });
    const meaning = make("p", { class: "meaning", id: "tokens-meaning" });
    const file = make("input", { type: "file", id: "counts-file", "aria-label": "file of counts" });
    const zipf = make("div", { class: "zipf" }, make("div", { class: "row" },
      make("label", { for: "zipf" }, "Zipf exponent α"), exponent), slider);
    select.addEventListener("change", () =>
      change("tokens", select.value === "zipf" ? `zipf:${exponent.value || 1}` : select.value));
    exponent.addEventListener("input", () => change("tokens", `zipf:${exponent.value}`));
    slider.addEventListener("input", () => change("tokens", `zipf:${Number(slider.value)}`));
    file.addEventListener("change", () => file.files[0] && readCounts(file.files[0]));
    controls.tokens = {
      slider, text: exponent,
      show(given, problem) {
        const options = ["uniform", "zipf", ...laws.files.keys()];
        const kind = given.startsWith("zipf") ? "zipf" : given;
        if (!options.includes(kind)) options.push(kind);
        if (options.join("\n") !== [...select.options].map(({ value }) => value).join("\n"))
          select.replaceChildren(...options.map((value) => make("option", { value },
            { uniform: "uniform", zipf: "Zipf" }[value] ?? value)));
        select.value = kind;
        const off = kind !== "zipf";
        exponent.disabled = slider.disabled = off;
        zipf.classList.toggle("off", off);
        const alpha = given.slice(given.indexOf(":") + 1);
        if (!off && exponent.value !== alpha) exponent.value = alpha;
        if (!off && document.activeElement !== slider) slider.value = Number(alpha);
        slider.setAttribute("aria-valuetext", alpha);
        wrong(exponent, meaning, problem, field.meaning);
      },
    };
    return make("div", { class: "field wide" },
      make("div", { class: "row" }, make("label", { for: "tokens" }, field.label), select), zipf, meaning,
      make("div", { id: "drop" }, "own counts: drop a file here, or ", file));
  }

  async function readCounts(file) {
    const name = file.name;
    const refuse = (problem) => {
      controls.tokens.show(texts.tokens, problem);
      notice(problem);
    };
    if (file.size > countFiles.MOST_BYTES)
      return refuse(`${facts.flags.tokens} 'counts:${name}': the page reads files of at most 64 MiB`);
    const { counts, problem } = countFiles.read(name, await file.text());
    if (problem) return refuse(problem);
    laws.addCounts(`counts:${name}`, counts);
    Object.assign(texts, { tokens: `counts:${name}`, vocab_size: String(counts.length) });
    return update();
  }

  function buildFields() {
    const build = { tokens: tokensField, choice: choiceField };
    element("fields").append(...facts.fields.map((field) => (build[field.kind] ?? sliderField)(field)));
    for (const [event, on] of [["dragover", true], ["dragleave", false], ["drop", false]])
      document.addEventListener(event, (given) => {
        given.preventDefault();
        document.body.classList.toggle("dropping", on);
        if (event === "drop" && given.dataTransfer.files[0]) readCounts(given.dataTransfer.files[0]);
      });
  }

  // Views

  function buildView(view) {
    const figure = make("div", { class: "figure", role: "img", "aria-label": `${view.title}. ${view.says}` });
    figure.style.height = `${view.height}px`;
    const parts = {
      figure, answer: make("div", { class: "answer" }), reasons: make("p", { class: "reasons" }),
      pointer: make("p", { class: "pointer" }), drawn: null,
    };
    const button = (text, work) => make("button", { type: "button", onclick: work,
      "aria-label": `${view.title}: ${text}` }, text);
    const name = `dynsim-${view.id}`;
    const tools = make("div", { class: "tools" },
      button("SVG", () => exporting.save(`${name}.svg`, exporting.svgText(alone(view)), "image/svg+xml")),
      button("PNG", async () => exporting.save(`${name}.png`, await exporting.png(alone(view)))),
      button("CSV", () => exporting.save(`${name}.csv`, exporting.csv(settled(view), address()), "text/csv")));
    const commandBox = make("div");
    const reasoning = make("div");
    const command = make("details", {}, make("summary", {}, "The same number by command and Python"), commandBox);
    const formula = make("details", {}, make("summary", {}, "Formula and assumptions"), reasoning);
    formula.addEventListener("toggle", () => {
      if (!reasoning.childElementCount) reasoning.innerHTML = '<p class="about">Written for sign or Adam, the full batch '
        + "and one output. For another optimizer, batch, token law or number of outputs the page evaluates the same "
        + "derivation with their averages, so its numbers can differ from what is written here.</p>"
        + facts.explanations[view.id].map(explanation).join("");
    });
    command.addEventListener("toggle", () => command.open && showCommand(view, commandBox));
    Object.assign(parts, { command, commandBox });
    const section = make("section", { class: "view", id: `view-${view.id}`, "aria-labelledby": `title-${view.id}` },
      make("h2", { id: `title-${view.id}` }, view.title), make("p", { class: "question" }, view.question),
      figure);
    if (view.id === "map") section.append(ramp(), parts.pointer);
    section.append(parts.answer, parts.reasons, make("p", { class: "says" }, view.says), tools, formula, command);
    panels.set(view.id, parts);
    element("views").append(section);
    watcher.observe(section);
    if (view.id === "map") followPointer(parts);
  }

  function explanation({ name, formula, symbols, assumptions, source }) {
    const list = (items) => `<ul>${items.map((item) => `<li>${item}</li>`).join("")}</ul>`;
    const meanings = symbols.map(([symbol, meaning]) =>
      `<math>${symbol}</math> ${views.escaped(meaning)}`).join("; ");
    return `<h3>${views.escaped(name)}</h3>${formula}<p>${meanings}.</p><p>It assumes:</p>`
      + `${list(assumptions.map(views.escaped))}<p class="source">Source: ${views.escaped(source)}</p>`;
  }

  function copyable(text) {
    const button = make("button", { type: "button" }, "copy");
    button.addEventListener("click", () => copy(text, button));
    return make("div", { class: "copyable" }, make("pre", {}, text), button);
  }

  async function copy(text, button) {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // a page opened as a file may not use the clipboard
      const area = make("textarea", {}, text);
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    const before = button.textContent;
    button.textContent = "copied";
    setTimeout(() => { button.textContent = before === "copied" ? "copy" : before; }, 1200);
    if (text.startsWith("file:")) announce("The link names a file of this machine: send the file with it.");
  }

  function showCommand(view, box) {
    const { shell, python } = commands.of[view.id](model, views.ranges(model));
    const missing = view.missing?.(model) ?? null;
    const lines = missing ? shell.filter(([, , always]) => always) : shell;
    const notes = missing ? [make("p", {}, `The page has no value at this point, so there is none to reproduce: ${missing}.`)]
      : facts.counts && model.tokens === facts.counts.name && model.vocab_size !== facts.counts.types
      && !model.tokens.startsWith("counts:")
      ? [make("p", {}, `The page holds ${facts.counts.types} types of ${model.tokens}; a smaller vocabulary is `
        + "its most frequent types, while the command makes tokens of that vocabulary anew.")] : [];
    const captioned = (about, text) => make("div", {}, make("p", { class: "about" }, about), copyable(text));
    box.replaceChildren(...notes, ...lines.map(([about, text]) => captioned(about, text)),
      ...(missing ? [] : [captioned("in Python", python)]));
  }

  function ramp() {
    const box = make("div", { class: "ramp" });
    box.append(Plot.legend({
      color: { type: "linear", scheme: "PuOr", domain: [0.5, 1] },
      label: "LV regime   ←   local exponent   →   μP regime", width: 300, height: 44, ticks: 5 }));
    return box;
  }

  /** On the map: what is under the pointer, and a click moves the point there. */
  function followPointer({ figure, pointer }) {
    const place = (event) => {
      const svg = figure.querySelector("svg");
      if (!svg || !model) return null;
      const box = svg.getBoundingClientRect();
      const { width: x, vocab_size: y } = views.ranges(model);
      const [left, right, top, bottom] = [52, 18, 22, 38];
      const [width, height] = ["width", "height"].map((side) => Number(svg.getAttribute(side)));
      const across = ((event.clientX - box.left) * width / box.width - left) / (width - left - right);
      const up = 1 - ((event.clientY - box.top) * height / box.height - top) / (height - top - bottom);
      if (!(across >= 0 && across <= 1 && up >= 0 && up <= 1)) return null;
      const at = ([low, high], share) => Number((low * (high / low) ** share).toPrecision(3));
      return { width: Math.max(2, Math.round(at(x, across))), vocab_size: Math.max(1, Math.round(at(y, up))) };
    };
    figure.style.cursor = "crosshair";
    figure.addEventListener("pointermove", (event) => {
      const at = place(event);
      if (!at) return;
      const { value, reason } = theory.localExponent(model, at.width, at.vocab_size);
      pointer.textContent = `d = ${views.integer(at.width)}, m = ${views.integer(at.vocab_size)}: `
        + (reason ?? `local exponent ${views.short(value)}`);
    });
    figure.addEventListener("pointerleave", () => { pointer.textContent = ""; });
    figure.addEventListener("click", (event) => {
      const at = place(event);
      if (at) set(at);
    });
  }

  const visible = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const id = target.id.replace("view-", "");
      if (isIntersecting) visible.add(id);
      else visible.delete(id);
    }
    drawStale();
  });
  const stale = new Set();
  let later = null;

  /** Draws a view; of a draft, which is coarser but soon there, the fine one is still to come. */
  function draw(view, draft = false) {
    const parts = panels.get(view.id);
    const width = Math.max(parts.width, 240);
    parts.drawn = view.draw(model, { width, height: view.height, draft });
    if (!parts.drawn.draft) stale.delete(view.id);
    parts.figure.replaceChildren(parts.drawn.svg);
    parts.answer.innerHTML = view.answer(model);
    const { reasons, cells, of } = parts.drawn;
    parts.reasons.innerHTML = [...reasons].map(([reason, count]) => '<span class="swatch"></span>no value'
      + (cells ? ` for ${share(count / cells)} ${of}` : "") + `: ${views.escaped(reason)}`).join("<br>");
    if (parts.command.open) showCommand(view, parts.commandBox);
    if (!draft) parts.figure.setAttribute("aria-label", `${view.title}. ${parts.answer.textContent}`);
  }

  const share = (part) => (part < 0.01 ? "less than 1 %" : `${(100 * part).toFixed(0)} %`);

  /** A view's figure as it is in the end. */
  function settled(view) {
    if (stale.has(view.id)) draw(view);
    return panels.get(view.id).drawn;
  }

  /** The same with title and legend, for a file. */
  const alone = (view) => exporting.titled(settled(view).svg, view.title, views.place(model),
    view.legend?.(model) ?? []);

  /** Draws what is in sight now, and the rest when there is time. */
  function drawStale() {
    for (const view of views.all) if (stale.has(view.id) && visible.has(view.id)) draw(view, true);
    clearTimeout(later);
    if (stale.size) later = setTimeout(drawNext, 120);
  }

  function drawNext() {
    const view = views.all.find(({ id }) => stale.has(id));
    if (view) {
      draw(view);
      const { answer, reasons } = panels.get(view.id);
      for (const part of [answer, reasons]) // a line that goes leaves its place, so that nothing jumps
        part.style.minHeight = `${Math.max(parseFloat(part.style.minHeight) || 0, part.offsetHeight)}px`;
    }
    if (stale.size) later = setTimeout(drawNext, 0);
  }

  // State

  const address = () => `${location.href.split("#")[0]}#${states.written(model)}`;
  let frame = null;
  let keep = null;
  let spoken = null;

  function change(name, text) {
    texts[name] = text;
    frame ??= requestAnimationFrame(update);
  }

  /** Reads all fields; draws if none is wrong, else says what is and keeps the views. */
  function update() {
    if (frame !== null) cancelAnimationFrame(frame);
    frame = null;
    const began = performance.now();
    const { state, problems } = states.readAll(texts);
    for (const name of states.names) controls[name].show(texts[name], problems[name]);
    if (Object.keys(problems).length) {
      document.body.dataset.wrong = Object.values(problems).join("\n");
      notice(`${Object.values(problems).join("; ")}. The views still show the state before.`);
      if (model === null) { // an address that cannot be: its right fields stay, the others are reset
        for (const name of Object.keys(problems)) texts[name] = String(facts.state[name]);
        const told = Object.values(problems).join("; ");
        const again = states.readAll(texts);
        if (Object.keys(again.problems).length)
          for (const name of states.names) texts[name] = String(facts.state[name]);
        update();
        notice(told);
      }
      return;
    }
    delete document.body.dataset.wrong;
    notice("");
    model = theory.model(state);
    element("headline").innerHTML = views.headline(model);
    for (const view of views.all) stale.add(view.id);
    drawStale();
    clearTimeout(keep);
    keep = setTimeout(() => history.replaceState(null, "", `#${states.written(model)}`), 150);
    clearTimeout(spoken);
    spoken = setTimeout(() => announce(element("headline").textContent), 900);
    timing.last = performance.now() - began;
  }
  const timing = { last: 0 };

  /** Something that went wrong, where it is seen whatever part of the page is in sight. */
  function notice(text) {
    element("notice").textContent = text;
  }

  function announce(text) {
    element("live").textContent = text;
  }

  function set(fields) {
    for (const [name, value] of Object.entries(fields)) texts[name] = String(value);
    update();
  }

  /** All numbers of all views, as the commands give them. */
  const numbers = () => Object.fromEntries(views.all.map((view) => [view.id, view.numbers(model)]));

  function drawAll() {
    clearTimeout(later);
    for (const view of views.all) if (stale.has(view.id)) draw(view);
  }

  buildFields();
  views.all.forEach(buildView);
  element("about").textContent = `dynsim ${facts.versions.dynsim}. Formulas are printed from their derivations. `
    + `Figures by Observable Plot ${facts.versions["Observable Plot"]} and D3 ${facts.versions.d3}. `
    + "This file needs no network.";
  element("reset").addEventListener("click", () => set(facts.state));
  element("copy-link").addEventListener("click", (event) => copy(address(), event.currentTarget));
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address is that of the state
    element("views").focus();
  });
  window.addEventListener("hashchange", () => {
    const given = states.fromAddress(location.hash);
    if (!model || states.written(model) !== states.written(given)) {
      texts = given;
      update();
    }
  });
  /** Widths are read here alone: read between two drawings they would lay the page out each time. */
  function measure() {
    const before = [...panels.values()].map(({ width }) => width).join();
    for (const parts of panels.values()) {
      parts.width = Math.floor(parts.figure.clientWidth);
      parts.answer.style.minHeight = parts.reasons.style.minHeight = "";
    }
    return before !== [...panels.values()].map(({ width }) => width).join();
  }
  new ResizeObserver(() => {
    if (!measure() || !model) return;
    for (const view of views.all) stale.add(view.id);
    drawStale();
  }).observe(element("views"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => model && update());
  measure();
  update();

  return { set, numbers, drawAll, panels, timing, address, read: states.readAll,
    texts: () => ({ ...texts }), model: () => model };
})();
