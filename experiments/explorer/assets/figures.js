// The six views: their figures by Observable Plot, their numbers, and why a point has none.
"use strict";

const views = (() => {
  const POINTS = 121;
  const CELL = 5; // pixels of the map's cells
  const DRAFT = 3; // times larger cells, and fewer values between which lines are looked for, of a draft
  const ink = (k) => `var(--ink-${k})`;
  const HATCH = "url(#hatch)";
  const integer = (value) => Math.round(value).toLocaleString("en-US");
  const short = (value) => {
    if (value === null || !Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(3);
    return size >= 1e4 ? integer(value) : String(Number(value.toPrecision(4)));
  };
  const percent = (share) => (Number.isFinite(share) ? `${(100 * share).toPrecision(3)} %` : "–");
  const LETTERS = ["", "k", "M", "G", "T"];
  const compact = (value) => {
    if (value < 0.01) return value.toExponential(0).replace("e-", "e−");
    if (value < 1) return String(Number(value.toPrecision(2)));
    const power = Math.min(Math.floor(Math.log10(value) / 3 + 1e-9), LETTERS.length - 1);
    return `${Number((value / 1000 ** power).toPrecision(3))}${LETTERS[power]}`;
  };

  /** A range of an axis that holds the values, with room around them. */
  function range([low, high], ...values) {
    const least = Math.min(low, ...values.map((value) => value / 2));
    return [Math.max(1, Math.floor(least)), Math.ceil(Math.max(high, ...values.map((value) => 2 * value)))];
  }

  function spaced(low, high, count = POINTS) {
    const step = Math.log(high / low) / (count - 1);
    return Array.from({ length: count }, (_, k) => low * Math.exp(k * step));
  }

  /** A logarithmic range around positive values. */
  function around(values) {
    const known = values.filter((value) => value > 0 && Number.isFinite(value));
    if (!known.length) return [1, 1000];
    const [low, high] = [Math.min(...known), Math.max(...known)];
    const room = Math.max((high / low) ** 0.06, 1.3);
    return [low / room, high * room];
  }

  const ranges = (one) => ({
    width: range([16, 65536], one.width, one.base_width),
    vocab_size: [16, Math.max(range([16, 1e6], one.vocab_size)[1], 32)],
  });

  /** A logarithmic axis with few ticks: powers of ten, or 1, 2, 5 of them where there are few. */
  function log(label, domain, more = {}) {
    const [low, high] = domain.map(Math.log10);
    const every = Math.max(1, Math.ceil((high - low) / 6));
    const leading = high - low < 1.6 ? [1, 2, 5] : [1];
    const ticks = [];
    for (let power = Math.floor(low); power <= high; power++)
      if (power % every === 0) ticks.push(...leading.map((digit) => digit * 10 ** power));
    return { type: "log", label, domain, tickFormat: compact, nice: false,
      ticks: ticks.filter((tick) => tick >= domain[0] && tick <= domain[1]), ...more };
  }

  /** A plot in the page's colours. */
  function plot({ width, height, ...options }) {
    const node = Plot.plot({
      width, height, marginLeft: 52, marginRight: 18, marginTop: 22, marginBottom: 38, ...options,
      style: { background: "transparent", color: "var(--text)", fontSize: "12px", overflow: "visible" },
    });
    const svg = node.tagName === "svg" ? node : node.querySelector("svg");
    svg.insertAdjacentHTML("afterbegin", HATCHING);
    return svg;
  }
  const HATCHING = '<defs><pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" '
    + 'patternTransform="rotate(45)"><rect width="7" height="7" fill="var(--hatch-ground)"/>'
    + '<line x1="0" y1="0" x2="0" y2="7" stroke="var(--hatch)" stroke-width="3"/></pattern></defs>';

  /** The whole frame hatched, for a view that has no value at all. */
  const hatched = () => Plot.frame({ fill: HATCH, stroke: null });
  const curve = (points, k, dash, more = {}) => Plot.line(points, {
    x: "x", y: "y", stroke: ink(k), strokeWidth: 2.2, strokeDasharray: dash, ...more });
  const here = (x) => Plot.ruleX([x], { stroke: "currentColor", strokeDasharray: "2 3", strokeOpacity: 0.7 });
  const marks = (points) => Plot.dot(points, {
    x: "x", y: "y", r: 5, fill: (point) => ink(point.k), stroke: "var(--surface)", strokeWidth: 1.5 });

  function line(k, dash) {
    return `<svg class="key" width="34" height="10" aria-hidden="true"><line x1="1" x2="33" y1="5" y2="5" `
      + `stroke="${ink(k)}" stroke-width="2.5" stroke-dasharray="${dash}"/></svg>`;
  }
  const escaped = (text) => String(text).replace(/[&<>"]/g,
    (mark) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[mark]);

  function table(head, rows) {
    const cells = (row, tag) => row.map((cell) => `<${tag}>${cell}</${tag}>`).join("");
    return `<table><thead><tr>${cells(head, "th")}</tr></thead><tbody>`
      + rows.map((row) => `<tr>${cells(row, "td")}</tr>`).join("") + "</tbody></table>";
  }

  const lawName = (one) => {
    const [kind, ...rest] = one.tokens.split(":");
    if (kind === "uniform") return "uniform tokens";
    return kind === "zipf" ? `Zipf ${rest.join(":")} tokens` : `tokens of ${one.tokens}`;
  };

  // The regime map

  /** Middles of equal parts of a logarithmic range. */
  const middles = (low, high, count) => Array.from({ length: count },
    (_, k) => low * (high / low) ** ((k + 0.5) / count));

  /** The map's colours as a picture in the frame; cells without a value let the hatching through. */
  function picture(values, across, up, [x, y, width, height]) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [across, up];
    const context = canvas.getContext("2d");
    const image = context.createImageData(across, up);
    values.forEach((value, k) => {
      if (!Number.isFinite(value)) return;
      const shade = SHADES[Math.round(SHADE_COUNT * Math.min(Math.max(2 * value - 1, 0), 1))];
      const row = up - 1 - Math.floor(k / across);
      image.data.set([shade.r, shade.g, shade.b, 255], 4 * (row * across + (k % across)));
    });
    context.putImageData(image, 0, 0);
    const node = document.createElementNS("http://www.w3.org/2000/svg", "image");
    for (const [name, value] of Object.entries({
      x, y, width, height, preserveAspectRatio: "none", href: canvas.toDataURL() }))
      node.setAttribute(name, value);
    return node;
  }
  const SHADE_COUNT = 255;
  const SHADES = Array.from({ length: SHADE_COUNT + 1 },
    (_, k) => d3.rgb(d3.interpolatePuOr(k / SHADE_COUNT)));

  const CONTOUR = 72; // values of each axis between which lines are looked for, one beyond each end

  /** Where a logarithm of a ratio is zero: points [width, vocabulary, piece]. */
  function contour(ratio, [left, right], [low, high], count) {
    const at = (from, to, k) => from * (to / from) ** ((k - 1) / (count - 3));
    const grid = new Float64Array(count * count);
    for (let row = 0; row < count; row++)
      for (let column = 0; column < count; column++) {
        const value = ratio(Math.max(1, at(left, right, column)), Math.max(1, at(low, high, row)));
        grid[row * count + column] = Number.isFinite(value) ? Math.min(Math.max(value, -99), 99) : -99;
      }
    const points = [];
    let piece = 0;
    for (const polygon of d3.contours().size([count, count]).contour(grid, 0).coordinates)
      for (const ring of polygon) {
        piece += 1;
        for (const [x, y] of ring) {
          const border = [x, y].some((one) => one <= 0.5 || one >= count - 0.5);
          if (border) piece += 1;
          else points.push([at(left, right, x - 0.5), at(low, high, y - 0.5), piece]);
        }
      }
    return points;
  }

  const LINES = ["", "7 4", "9 3 2 3", "2 3"]; // dashes of the boundaries

  const OF_GRID = ["tokens", "batch_size", "outputs", "init", "optimizer", "age", "embedding_lr"];
  const grids = { key: "", grid: null }; // the last one, which a move of the point does not change

  /**
   * Values of the map's cells, row by row from below, the lines, and why cells have no value. A draft
   * is coarser, unless the fine one is known.
   */
  function grid(one, x, y, width, height, draft) {
    const key = JSON.stringify([OF_GRID.map((name) => one[name]), x, y, width, height, laws.changes()]);
    if (grids.key === key && (draft || !grids.grid.draft)) return grids.grid;
    const [reasons, rows] = [new Map(), []];
    const cell = draft ? DRAFT * CELL : CELL;
    const [across, up] = [Math.round(width / cell), Math.round(height / cell)];
    const [xs, ys] = [middles(...x, across), middles(...y, up)];
    const values = ys.flatMap((m) => xs.map((d) => {
      const { value, reason } = theory.localExponent(one, d, m);
      if (reason) reasons.set(reason, 1 + (reasons.get(reason) ?? 0));
      rows.push([d, m, value, reason ?? ""]);
      return value;
    }));
    const count = draft ? CONTOUR / DRAFT : CONTOUR;
    const pieces = theory.boundaries(one).map(({ ratio }) => contour(ratio, x, y, count));
    Object.assign(grids, { key, grid: { values, across, up, pieces, reasons, rows, draft } });
    return grids.grid;
  }

  const map = {
    id: "map",
    title: "Regime map",
    question: "Where am I, and how far is the next regime?",
    says: "Colour: local exponent of the projection's update, the power by which it grows with the "
      + "width. Near 1 is the μP regime, where neurons change an output together (maximal update); near ½ "
      + "the large-vocabulary (LV) regime, where they change it like random numbers. Click to move there.",
    height: 330,
    draw(one, { width, height, draft }) {
      const { width: x, vocab_size: y } = ranges(one);
      const found = grid(one, x, y, width, height, draft);
      const { values, across, up, pieces, reasons, rows } = found;
      const lines = pieces.flatMap((points, k) => [["#fff", 4.5, null], ["#111", 2, LINES[k]]].map(
        ([stroke, strokeWidth, dash]) => Plot.line(points, {
          x: "0", y: "1", z: "2", stroke, strokeWidth, strokeDasharray: dash, clip: true })));
      const point = [{ x: one.width, y: one.vocab_size }];
      const svg = plot({
        width, height, x: log("width d →", x), y: log("↑ vocabulary m", y),
        marks: [
          hatched(),
          (index, scales, channels, { width, height, marginLeft, marginRight, marginTop, marginBottom }) =>
            picture(values, across, up, [marginLeft, marginTop, width - marginLeft - marginRight,
              height - marginTop - marginBottom]),
          ...lines,
          Plot.frame(),
          Plot.dot(point, { x: "x", y: "y", r: 8, fill: "#fff", stroke: "#111", strokeWidth: 2 }),
          Plot.dot(point, { x: "x", y: "y", r: 3, fill: "#111" }),
        ],
      });
      return { svg, rows, head: ["width", "vocab_size", "local_exponent", "no_value_because"], reasons,
        cells: rows.length, of: "of the map", draft: found.draft };
    },
    answer(one) {
      const { value, reason, own } = theory.pointExponent(one);
      const pieces = grids.grid?.pieces ?? [];
      const lines = theory.boundaries(one).map(({ name }, k) =>
        `<span class="legend"><svg class="key" width="34" height="10" aria-hidden="true"><line x1="1" `
        + `x2="33" y1="5" y2="5" stroke="currentColor" stroke-width="2.5" stroke-dasharray="${LINES[k]}"/>`
        + `</svg>${escaped(name)}${pieces[k]?.length === 0 ? " (not on this map)" : ""}</span>`).join(" ");
      const now = reason ? `No value at your point: ${escaped(reason)}.`
        : `Local exponent at your point: <b>${short(value)}</b>.`;
      const map = own?.slope ? theory.localExponent(one, one.width, one.vocab_size) : null;
      const drawn = !map ? "" : " It holds the self term of the initial output "
        + `(κ = ${short(own.kappa)}), which the map leaves out: ${map.reason ? "hatched where that matters"
          : `${short(map.value)} without it`}.`;
      return `<p>${now}${drawn}</p><p>${lines}</p>`;
    },
    missing: (one) => theory.pointExponent(one).reason,
    legend: (one) => [
      ...theory.boundaries(one).map(({ name }, k) => ["currentColor", LINES[k], name]),
      ...[0.5, 0.65, 0.85, 1].map((value) => [d3.interpolatePuOr(2 * value - 1), "", `local exponent ${value}`])],
    numbers: (one) => ({
      local_exponent: theory.pointExponent(one).value,
      coherence_ratio: theory.coherence(one, one.width, one.vocab_size),
      crossover_vocab_size: theory.crossoverVocabulary(one),
    }),
  };

  // Updates against the width

  const LAYERS = [
    ["embedding", "embedding", 3, "2 3"],
    ["projection", "projection, first hidden matrix", 1, ""],
    ["readout", "readout behind a ReLU layer", 2, "8 4"],
    ["later", "projection at update T", 4, "9 3 2 3"],
  ];
  const layersOf = (one) => LAYERS.filter(([layer]) => layer !== "later" || one.age > 0);

  const updates = {
    id: "updates",
    title: "Size of an update against width",
    question: "How far does one update move each layer's output?",
    says: "Root mean square of what the first update of a layer changes of its output, at learning rate 1 "
      + "and residuals of size 1. The slope is the local exponent.",
    height: 290,
    draw(one, { width, height }) {
      const x = ranges(one).width;
      const [rows, shown, points] = [[], [], []];
      const reasons = new Map();
      for (const [layer, , k, dash] of layersOf(one)) {
        const curveOf = spaced(...x).map((d) => ({ x: d, ...theory.update(one, layer, d) }));
        for (const { reason } of curveOf)
          if (reason) reasons.set(reason, Math.min(1 + (reasons.get(reason) ?? 0), curveOf.length));
        for (const at of curveOf) rows.push([layer, at.x, at.rms, at.slope]);
        const drawn = curveOf.filter((at) => at.rms > 0).map((at) => ({ x: at.x, y: at.rms }));
        if (!drawn.length) continue;
        shown.push(curve(drawn, k, dash));
        points.push({ x: one.width, y: theory.update(one, layer, one.width).rms, k });
      }
      const svg = plot({
        width, height, x: log("width d →", x),
        y: { ...log("↑ RMS of the update", around(rows.map((row) => row[2]))), grid: true },
        marks: [shown.length ? null : hatched(), ...shown, here(one.width),
          marks(points.filter(({ y }) => y > 0)), Plot.frame({ strokeOpacity: 0.3 })],
      });
      return { svg, rows, head: ["layer", "width", "rms", "local_exponent"], reasons,
        cells: POINTS, of: shown.length ? `of the widths, at update ${integer(one.steps)}` : "of the widths" };
    },
    missing: (one) => theory.update(one, "projection", one.width).reason,
    legend: (one) => layersOf(one).map(([, name, k, dash]) => [ink(k), dash, name]),
    answer: (one) => table(["", "layer", "RMS", "local exponent"], layersOf(one).map(
      ([layer, name, k, dash]) => {
        const { rms, slope } = theory.update(one, layer, one.width);
        return [line(k, dash), name, short(rms), short(slope)];
      })) + selfTermNote(theory.update(one, "projection", one.width)),
    numbers: (one) => Object.fromEntries(layersOf(one).flatMap(([layer]) => {
      const { rms, slope } = theory.update(one, layer, one.width);
      return [[`${layer}_rms`, rms], [`${layer}_local_exponent`, slope]];
    })),
  };

  /** What the initial output changes at the projection, in the words of `dynsim derive`. */
  function selfTermNote({ own, plain }) {
    if (!own) return "";
    if (plain)
      return "<p>The projection's first update holds the self term of the initial output "
        + `(κ = ${short(own.kappa)}; mse, targets of unit variance). Without it, at small initial `
        + `output, RMS ${short(plain.rms)} and exponent ${short(plain.slope)}.</p>`;
    return `<p>The projection's self term is left out although κ = ${short(own.kappa)} is not small: `
      + `the RMS is that of a small initial output (${escaped(own.reason)}).</p>`;
  }

  const once = (reason) => new Map(reason ? [[reason, 1]] : []);

  // The ratio of the learning rates

  /** Names of rules in a few words: those that one paper has for several gauges are joined. */
  function joined(names) {
    const [families, rest] = [new Map(), []];
    for (const name of names) {
      const [, author, gauge, alignment] = /^(\S+) (\w+), (.*)$/.exec(name) ?? [];
      if (!author) rest.push(name);
      else families.set(`${author}|${alignment}`, [...(families.get(`${author}|${alignment}`) ?? []), gauge]);
    }
    const together = [...families].map(([key, gauges]) => {
      const [author, alignment] = key.split("|");
      return `${author} ${gauges.join(", ")} (${alignment})`;
    });
    return escaped([...rest, ...together].join("; "));
  }

  const powersOf = () => {
    const groups = new Map();
    for (const rule of facts.published)
      groups.set(rule.written, { power: rule.power, names: [...(groups.get(rule.written)?.names ?? []), rule.name] });
    return [...groups].sort((one, other) => other[1].power - one[1].power);
  };

  const ratio = {
    id: "ratio",
    title: "Ratio of the best learning rates",
    question: "By how much should the embedding learn faster than the layer above?",
    says: "Embedding LR over projection LR, each best for one step with the other layer frozen, and as "
      + "maximal update has it. Published rules are powers of the width through the base width.",
    height: 290,
    draw(one, { width, height }) {
      const x = ranges(one).width;
      const found = spaced(...x).map((d) => ({ x: d, ...theory.rateRatio(one, d) }));
      const start = theory.rateRatio(one, one.base_width);
      const anchor = Number.isFinite(start.value) ? start.value : start.maximal;
      const rules = powersOf().map(([written, { power }]) => ({
        written,
        points: x.map((d) => ({ x: d, y: anchor * (d / one.base_width) ** power })) }));
      const best = found.filter(({ value }) => value > 0).map((at) => ({ x: at.x, y: at.value }));
      const maximal = found.filter((at) => at.maximal > 0).map((at) => ({ x: at.x, y: at.maximal }));
      const now = theory.rateRatio(one, one.width);
      const covered = maximal.length > 0;
      const reasons = new Map();
      for (const { reason } of found)
        if (reason) reasons.set(reason, 1 + (reasons.get(reason) ?? 0));
      const outside = found.filter(({ reason }) => reason).map((at) => at.x);
      const svg = plot({
        width, height, x: log("width d →", x),
        y: { ...log("↑ embedding LR / projection LR", around([...best, ...maximal,
          ...(covered ? rules.flatMap(({ points }) => points) : [])].map(({ y }) => y))), grid: true },
        marks: [
          covered && outside.length
            ? Plot.rectX([0], { x1: outside[0], x2: outside[outside.length - 1], fill: HATCH }) : null,
          covered ? null : hatched(),
          ...(covered ? rules.map(({ points }, k) => Plot.line(points, {
            x: "x", y: "y", stroke: "currentColor", strokeOpacity: 0.65, strokeWidth: 1.3,
            strokeDasharray: k ? "1 3" : "5 3" })) : []),
          curve(maximal, 2, "8 4"), curve(best, 1, ""), here(one.width),
          marks([{ x: one.width, y: now.value, k: 1 }, { x: one.width, y: now.maximal, k: 2 }]
            .filter(({ y }) => y > 0)),
          Plot.frame({ strokeOpacity: 0.3 }),
        ],
      });
      return { svg, rows: found.map((at) => [at.x, at.value, at.maximal, at.reason ?? ""]),
        head: ["width", "one_step_optimal_ratio", "maximal_update_ratio", "no_value_because"], reasons,
        cells: found.length, of: "of the widths" };
    },
    answer(one) {
      const now = theory.rateRatio(one, one.width);
      const key = (dash) => '<svg class="key" width="34" height="10" aria-hidden="true"><line x1="1" x2="33" '
        + `y1="5" y2="5" stroke="currentColor" stroke-opacity=".65" stroke-width="1.5" stroke-dasharray="${dash}"/></svg>`;
      const rows = [
        [line(1, ""), "best for one step, each layer alone", short(now.value)],
        [line(2, "8 4"), "maximal update", short(now.maximal)],
      ];
      const rules = powersOf().map(([written, { names }], k) => `<p>${key(k ? "1 3" : "5 3")} published, `
        + `d<sup>${written}</sup>: ${joined(names)}</p>`).join("");
      return table(["", "rule", `at d = ${integer(one.width)}`], rows) + rules;
    },
    missing: (one) => theory.rateRatio(one, one.width).reason,
    legend: () => [[ink(1), "", "best for one step, each layer alone"], [ink(2), "8 4", "maximal update"],
      ...powersOf().map(([written], k) => ["currentColor", k ? "1 3" : "5 3", `published, d^${written}`])],
    numbers(one) {
      const now = theory.rateRatio(one, one.width);
      return { optimal_rate_ratio: now.value, maximal_update_ratio: now.maximal };
    },
  };

  // Tokens by rank

  const tokens = {
    id: "tokens",
    title: "Tokens by rank",
    question: "Which of my tokens are in which regime?",
    says: "Above: coherence ratio ρᵢ of single tokens, coherent over incoherent power of the first "
      + "update; 1 parts the regimes. Below: share of all occurrences that tokens up to a rank make up.",
    height: 330,
    draw(one, { width, height }) {
      const m = one.vocab_size;
      const regimes = theory.tokenRegimes(one);
      const domain = [1, Math.max(m, 2)];
      const ranks = [...new Set(spaced(1, Math.max(m, 1.0001)).map(Math.round))];
      const found = ranks.map((rank) => ({
        x: rank, f: one.law.frequency(rank, m), mass: one.law.mass(rank, m),
        rho: regimes.reason ? NaN : theory.tokenCoherence(one, rank) }));
      const shown = found.filter(({ rho }) => rho > 0);
      const half = Math.round(height / 2);
      const edge = regimes.types > 0 && regimes.types < m ? [regimes.types + 0.5] : [];
      const split = Math.max(regimes.types || 0, 0);
      const mup = found.filter(({ x }) => x <= split);
      const at = { x: Math.max(split, 1), mass: split ? one.law.mass(split, m) : 0 };
      const boundary = edge.length ? [Plot.ruleX(edge, { stroke: "currentColor", strokeWidth: 1.5 })] : [];
      const areas = regimes.reason ? [] : [
        Plot.areaY([at, ...found.filter(({ x }) => x > split)], { x: "x", y: "mass", fill: ink(5), fillOpacity: 0.55 }),
        Plot.areaY([...mup, at], { x: "x", y: "mass", fill: ink(6), fillOpacity: 0.75 })];
      const above = plot({
        width, height: half, marginBottom: 18, x: { ...log(null, domain), axis: null },
        y: { ...log("↑ ρᵢ of the token", around([1, ...shown.map(({ rho }) => rho)])), grid: true },
        marks: [regimes.reason ? hatched() : null,
          Plot.ruleY([1], { stroke: "currentColor", strokeDasharray: "5 3" }),
          Plot.line(shown, { x: "x", y: "rho", stroke: ink(1), strokeWidth: 2.2 }), ...boundary,
          Plot.frame({ strokeOpacity: 0.3 })],
      });
      const below = plot({
        width, height: height - half, marginTop: 24, x: log("rank i of the token →", domain),
        y: { label: "↑ share of occurrences", domain: [0, 1], ticks: [0, 0.5, 1], tickFormat: "%", grid: true },
        marks: [...areas, Plot.line(found, { x: "x", y: "mass", stroke: "currentColor" }), ...boundary,
          Plot.frame({ strokeOpacity: 0.3 })],
      });
      return { svg: stacked(above, below, width, height), head: ["rank", "frequency", "share_up_to_rank", "rho"],
        rows: found.map((token) => [token.x, token.f, token.mass, token.rho]), reasons: once(regimes.reason) };
    },
    answer(one) {
      const { types, share, reason } = theory.tokenRegimes(one);
      if (reason) return `<p>No value: ${escaped(reason)}.</p>`;
      const block = (k) => `<span class="block" style="background:${ink(k)}"></span>`;
      return table(["", "regime", "token types", "of all occurrences"], [
        [block(6), "μP, ρᵢ &gt; 1", integer(types), percent(share)],
        [block(5), "LV, ρᵢ ≤ 1", integer(one.vocab_size - types), percent(1 - share)]]);
    },
    missing: (one) => theory.tokenRegimes(one).reason,
    numbers(one) {
      const { types, share } = theory.tokenRegimes(one);
      return { mup_types: types, mup_share_of_tokens: share };
    },
  };

  function stacked(above, below, width, height) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const [name, value] of Object.entries({
      width, height, viewBox: `0 0 ${width} ${height}`, class: above.getAttribute("class") }))
      svg.setAttribute(name, value);
    svg.setAttribute("style", above.getAttribute("style") ?? "");
    const top = Number(above.getAttribute("height"));
    below.setAttribute("y", top);
    svg.append(above, below);
    return svg;
  }

  // The life of the LV regime

  /** Stretches of displacements in one regime; with an end of the LV regime that is where it changes. */
  function regimesAlong(one, moved, end) {
    const [first, last] = [moved[0], moved[moved.length - 1]];
    if (end) return [{ from: first, to: end, name: "LV" }, { from: end, to: last, name: "μP" }];
    const runs = [];
    for (const at of moved) {
      const name = theory.agedIsCoherent(one, at) ? "μP" : "LV";
      if (runs.at(-1)?.name === name) runs.at(-1).to = at;
      else {
        if (runs.length) runs.at(-1).to = at;
        runs.push({ from: at, to: at, name });
      }
    }
    return runs;
  }

  const life = {
    id: "life",
    title: "Life of the LV regime",
    question: "When have learned embeddings restored alignment?",
    says: "Local exponent of the projection's update once the embedding has moved, while residuals keep "
      + "their size. The LV regime ends where coherent and incoherent power are equal, at about ¾.",
    height: 290,
    draw(one, { width, height }) {
      const { end, chance, reason } = theory.lifetime(one);
      const scale = end || one.width ** -0.5;
      const moved = one.age * (chance ?? 1);
      const x = [Math.min(scale / 50, moved > 0 ? moved / 2 : Infinity), Math.max(scale * 30, moved * 2)];
      const found = reason ? [] : spaced(...x).map((theta) => ({
        x: theta, y: theory.agedExponent(one, theta, chance),
        turned: formulas[`error.turned.${one.init}`]({ d: one.width, theta: theta / chance }) > 1 }));
      const runs = reason ? [] : regimesAlong(one, found.map((at) => at.x), end);
      const outside = one.age > 0 ? theory.update(one, "later", one.width).reason : null;
      const turned = found.find((at) => at.turned)?.x;
      const covered = found.filter((at) => !at.turned);
      const now = moved > 0 ? moved : x[0];
      const label = (text, at) => Plot.text([[at, 1.02]], {
        text: () => text, x: "0", y: "1", fill: "currentColor", dy: 2, fontWeight: 600 });
      const svg = plot({
        width, height, x: log("displacement of a token, in initial std →", x),
        y: { label: "↑ local exponent", domain: [0.45, 1.05], grid: true },
        marks: [
          reason ? hatched() : null,
          ...runs.map(({ from, to, name }) => Plot.rectX([0],
            { x1: from, x2: to, fill: ink(name === "LV" ? 5 : 6), fillOpacity: 0.22 })),
          turned ? Plot.rectX([0], { x1: turned, x2: x[1], fill: HATCH }) : null,
          reason || !end ? null : Plot.ruleX([end], { stroke: "currentColor", strokeWidth: 1.5 }),
          ...runs.filter(({ from, to }) => Math.log(to / from) > Math.log(x[1] / x[0]) / 12)
            .map(({ from, to, name }) => label(name, Math.sqrt(from * Math.max(from, Math.min(to, turned ?? to))))),
          curve(covered, 1, ""),
          reason ? null : here(now),
          reason || outside ? null : marks([{ x: now, y: theory.agedExponent(one, moved > 0 ? moved : 0, chance), k: 1 }]),
          Plot.frame({ strokeOpacity: 0.3 })],
      });
      const reasons = once(reason);
      if (outside && !reason) reasons.set(`${outside} (at update ${integer(one.steps)})`, 1);
      if (turned) reasons.set(theory.named(facts.reasons.RESIDUALS_TURN), found.length - covered.length);
      return { svg, head: ["displacement", "local_exponent"], rows: found.map((at) => [at.x, at.y]), reasons,
        cells: found.length, of: "of the displacements" };
    },
    answer(one) {
      const { end, steps, visits, reason } = theory.lifetime(one);
      if (reason) return `<p>No value: ${escaped(reason)}.</p>`;
      if (!end) {
        const start = one.width ** -0.5;
        const dip = regimesAlong(one, spaced(start / 50, start * 30), 0).find(({ name }) => name === "LV");
        return "<p>The first update is in the μP regime: there is no LV regime to end.</p>"
          + (dip ? `<p>Later updates leave it for a while: ρ is below 1 from a displacement of ${short(dip.from)} to `
            + `${short(dip.to)} initial std, and above 1 again from there on.</p>` : "");
      }
      return table(["end of the LV regime", ""], [
        ["displacement of a token", `${short(end)} initial std`],
        [`at η<sub>E</sub> = ${short(one.embedding_lr)}`, `${short(steps)} updates, ${short(visits)} visits of a token`]]);
    },
    missing: (one) => theory.lifetime(one).reason,
    numbers(one) {
      const { end, steps, visits } = theory.lifetime(one);
      return { lifetime_displacement: end, lifetime_steps: steps ?? NaN, lifetime_visits: visits ?? NaN };
    },
  };

  // What the rules say

  const RULES = [["muP", 6, ""], ["LV", 5, "8 4"], ["interpolated", 1, "9 3 2 3"]];

  const rules = {
    id: "rules",
    title: "From the base width to the width",
    question: "What does each rule make of my learning rates?",
    says: "By what each rule multiplies the ratio embedding LR / hidden LR that was tuned at the base width. "
      + "The table has the factors of single layers for a model without multipliers.",
    height: 290,
    draw(one, { width, height }) {
      const x = ranges(one).width;
      const widths = spaced(...x, 41);
      const all = widths.map((d) => theory.rules(one, d));
      const rows = widths.flatMap((d, k) => all[k].map((rule) => [rule.name, d, rule.ratio]));
      const now = theory.rules(one);
      const svg = plot({
        width, height, x: log("width d →", x),
        y: { ...log("↑ factor of embedding LR / hidden LR", around(rows.map((row) => row[2]))), grid: true },
        marks: [
          Plot.ruleX([one.base_width], { stroke: "currentColor", strokeOpacity: 0.4 }),
          ...RULES.map(([, k, dash], n) => curve(
            widths.map((d, w) => ({ x: d, y: all[w][n].ratio })), k, dash)),
          here(one.width), marks(now.map((rule, n) => ({ x: one.width, y: rule.ratio, k: RULES[n][1] }))),
          Plot.frame({ strokeOpacity: 0.3 })],
      });
      return { svg, rows, head: ["rule", "width", "factor_of_ratio"], reasons: new Map() };
    },
    answer(one) {
      const factor = (value) => (value === undefined ? "" : `×${short(value)}`);
      const row = (rule, key, name) => [key, name, factor(rule.factors.embedding),
        factor(rule.factors.hidden), factor(rule.factors.readout), factor(rule.ratio)];
      const rows = theory.rules(one).map((rule, n) => row(rule, line(RULES[n][1], RULES[n][2]),
        rule.name === "muP" ? "μP" : rule.name));
      const head = ["", "rule", "embedding", "hidden", "readout", "ratio"];
      if (one.optimizer !== "adam")
        return `${table(head, rows)}<p>Published rules are of Adam: choose it to compare.</p>`;
      const groups = new Map();
      for (const rule of theory.published(one)) {
        const key = JSON.stringify(rule.powers);
        groups.set(key, { ...rule, names: [...(groups.get(key)?.names ?? []), rule.name] });
      }
      const known = [...groups.values()].map((rule) => row(rule, "", `<small>${joined(rule.names)}</small>`));
      return `${table(head, rows)}<p>Published rules of Adam:</p>${table(head.slice(1),
        known.map((cells) => cells.slice(1)))}`;
    },
    legend: () => RULES.map(([name, k, dash]) => [ink(k), dash, name === "muP" ? "μP" : name]),
    numbers: (one) => Object.fromEntries(theory.rules(one).flatMap((rule) => [
      [`${rule.name}_ratio_growth`, rule.ratio], [`${rule.name}_hidden`, rule.factors.hidden],
      [`${rule.name}_embedding`, rule.factors.embedding], [`${rule.name}_readout`, rule.factors.readout]])),
  };

  /** The name of the regime by the coherence ratio, as everywhere: the regimes meet at 1. */
  const regimeOf = (rho) => (rho >= 1 ? "μP" : "LV");

  /** Where the muP regime ends over the vocabulary, by rho at the point. */
  const ending = (one, rho, edge) => edge !== null
    ? `the μP regime ends at a vocabulary of <b>${integer(edge)}</b>${rho >= 1 && edge < one.vocab_size
      ? ", and holds again at yours" : ""}`
    : rho >= 1 ? `the μP regime holds at every vocabulary tried, up to <b>${integer(one.law.largest)}</b>`
      : "no vocabulary is in the μP regime";

  /** Where the point is and how far the next regime, in a few sentences. */
  function headline(one) {
    const place = `At width <b>${integer(one.width)}</b> and vocabulary <b>${integer(one.vocab_size)}</b> (${escaped(lawName(one))})`;
    const rho = theory.coherence(one, one.width, one.vocab_size);
    if (!Number.isFinite(rho)) return `${place}: ${escaped(theory.localExponent(one, one.width, one.vocab_size).reason)}.`;
    const now = theory.pointExponent(one);
    const grows = one.age > 0 || now.reason ? "" : `, and the update grows like d<sup>${short(now.value)}</sup> here`;
    const aged = theory.agedCoherence(one);
    const edge = ending(one, rho, theory.crossoverVocabulary(one));
    const next = aged === null ? `At this width ${edge}.` : `At this width and the first update ${edge}.`;
    const later = aged === null ? "" : aged.reason
      ? ` Update ${integer(one.steps)} has no value: ${escaped(aged.reason)}.`
      : ` Update ${integer(one.steps)} is <b>in the ${regimeOf(aged.value)} regime</b>: ρ = ${short(aged.value)}; `
        + `there ${ending(one, aged.value, theory.crossoverVocabulary(one, true))}.`;
    const { share, reason } = theory.tokenRegimes(one);
    const single = one.law.uniform || reason ? ""
      : ` Single tokens differ: those in the μP regime are ${percent(share)} of all occurrences.`;
    return `${place} the first update is <b>in the ${regimeOf(rho)} regime</b>: coherent over incoherent power ρ = ${short(rho)} `
      + `(μP from 1 on, LV below)${grows}. ${next}${later}${single}`;
  }

  /** The point in words, for the title of a file. */
  const place = (one) => `d = ${integer(one.width)}, m = ${integer(one.vocab_size)}, ${lawName(one)}, `
    + `${one.batch_size ? `batches of ${integer(one.batch_size)}` : "full batch"}, ${one.optimizer}, update ${integer(one.steps)}`;

  return { place, all: [map, updates, ratio, tokens, life, rules], ranges, headline, short, integer, escaped };
})();
