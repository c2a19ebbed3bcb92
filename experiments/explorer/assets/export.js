// A view as a file: SVG and PNG of its figure, CSV of its numbers.
"use strict";

const exporting = (() => {
  function save(name, content, type) {
    const link = document.createElement("a");
    link.href = content instanceof Blob ? URL.createObjectURL(content)
      : URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  /** A figure that stands alone: the page's colours and fonts are written into it. */
  function svgText(svg) {
    const copy = svg.cloneNode(true);
    const styles = getComputedStyle(document.documentElement);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.setAttribute("xmlns:xlink", "http://www.w3.org/1999/xlink");
    copy.setAttribute("font-family", "system-ui, sans-serif");
    copy.setAttribute("color", styles.getPropertyValue("--text").trim());
    copy.insertAdjacentHTML("afterbegin",
      '<rect width="100%" height="100%" fill="var(--surface)"></rect>');
    return new XMLSerializer().serializeToString(copy)
      .replace(/var\((--[\w-]+)\)/g, (_, name) => styles.getPropertyValue(name).trim());
  }

  /** A figure below its title and the point that it is of, and above the names of its lines: [colour, dashes, name]. */
  function titled(svg, title, place, legend) {
    const [width, height] = ["width", "height"].map((side) => Number(svg.getAttribute(side)));
    const whole = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const top = 42;
    const total = top + height + 17 * legend.length + (legend.length ? 8 : 0);
    for (const [name, value] of Object.entries({ width, height: total, viewBox: `0 0 ${width} ${total}`,
      "font-size": 12, fill: "currentColor" })) whole.setAttribute(name, value);
    const text = (words, x, y, more = "") =>
      `<text x="${x}" y="${y}" ${more}>${words.replace(/[&<]/g, (mark) => ({ "&": "&amp;", "<": "&lt;" })[mark])}</text>`;
    const names = legend.map(([colour, dash, name], k) => {
      const y = top + height + 17 * k + 8;
      return `<line x1="52" x2="86" y1="${y}" y2="${y}" stroke="${colour}" stroke-width="2.5" stroke-dasharray="${dash}"/>`
        + text(name, 92, y + 4);
    });
    whole.innerHTML = text(title, 8, 17, 'font-weight="600"') + text(place, 8, 34) + names.join("");
    const figure = svg.cloneNode(true);
    figure.setAttribute("y", top);
    whole.append(figure);
    return whole;
  }

  async function png(svg, scale = 2) {
    const [width, height] = ["width", "height"].map((side) => Number(svg.getAttribute(side)));
    const picture = new Image();
    picture.src = URL.createObjectURL(new Blob([svgText(svg)], { type: "image/svg+xml" }));
    await picture.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width * scale, height * scale];
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    URL.revokeObjectURL(picture.src);
    return new Promise((done) => canvas.toBlob(done, "image/png"));
  }

  /** The numbers of a figure, after the state and the version that they are of. */
  function csv({ head, rows }, address) {
    const cell = (value) => {
      const text = typeof value === "number" ? (Number.isFinite(value) ? String(value) : "") : String(value);
      return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const about = `# dynsim ${facts.versions.dynsim}: ${address}\n`;
    return about + [head, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
  }

  return { save, svgText, titled, png, csv };
})();
