// Counts of token types from a file dropped on the page, refused in the words of the command.
"use strict";

const countFiles = (() => {
  const words = facts.counts_words;
  const filled = (text, values) => text.replace(/\{(\w+)(![r])?(:g)?\}/g,
    (_, name, quoted) => (quoted ? `'${values[name]}'` : values[name]));
  const MOST_BYTES = 64 * 2 ** 20;

  const number = (text) => {
    const value = text.trim() === "" ? NaN : Number(text.trim().replace(/^([1-9]\d{0,2}(?:,\d{3})+)(\.\d+)?$/,
      (_, whole, rest) => whole.replaceAll(",", "") + (rest ?? "")));
    return Number.isFinite(value) && value >= 0 ? value : NaN;
  };

  class Refused extends Error {}
  const refuse = (text, values = {}) => { throw new Refused(filled(text, values)); };

  function ofJson(document) {
    let values = Array.isArray(document) ? document : Object.values(document);
    if (values.length && values.every((pair) => Array.isArray(pair) && pair.length === 2))
      values = values.map(([one, other]) => (typeof other === "number" ? other : one));
    const wrong = values.find((value) => typeof value !== "number");
    if (wrong !== undefined) refuse(words.WRONG_VALUE, { value: (typeof wrong === "string" ? wrong : JSON.stringify(wrong)).slice(0, 40) });
    return values;
  }

  function ofTable(head, rows) {
    const columns = head.map((name, k) => [name.trim().toLowerCase(), rows.map((row) => number(row[k]))])
      .filter(([, cells]) => !cells.some(Number.isNaN));
    const named = columns.filter(([name]) => words.COUNT_COLUMNS.includes(name));
    const chosen = named.length ? named : columns;
    if (chosen.length !== 1)
      refuse(words.NO_COLUMN, { which: chosen.length
        ? `several columns of numbers: ${chosen.map(([name]) => name).join(", ")}` : "none of numbers" });
    return chosen[0][1];
  }

  function ofLines(text) {
    const lines = text.split(/\r?\n/).map((line, k) => [k + 1, line])
      .filter(([, line]) => line.trim() !== "" && !line.startsWith("#"));
    if (!lines.length) refuse(words.NO_COUNTS);
    const bare = lines.map(([, line]) => number(line));
    if (!bare.some(Number.isNaN)) return bare;
    const cuts = [
      (line) => line.split("\t"), (line) => line.split(","), (line) => line.split(";"),
      (line) => {
        const [, word, last] = /^(.*\S)\s+(\S+)$/.exec(line.trim()) ?? [];
        return word !== undefined && !Number.isNaN(number(last)) ? [word, last] : [line];
      },
      (line) => {
        const [, first, word] = /^(\S+)\s+(.*)$/.exec(line.trim()) ?? [];
        return word !== undefined && !Number.isNaN(number(first)) ? [first, word] : [line];
      },
    ];
    for (const cut of cuts) {
      const rows = lines.map(([, line]) => cut(line));
      const size = rows[0].length;
      if (size < 2 || rows.some((row) => row.length !== size)) continue;
      const head = rows.length > 1 && rows[0].every((cell) => Number.isNaN(number(cell)));
      if (head) return ofTable(rows[0], rows.slice(1));
      if (size !== 2) continue;
      const sides = [0, 1].map((side) => rows.map((row) => number(row[side])));
      const whole = sides.map((side) => !side.some(Number.isNaN));
      if (whole[0] && whole[1]) {
        const ranked = sides.map((side) => side.every((one, k) => k === 0 || one === side[k - 1] + 1));
        if (ranked[0] !== ranked[1]) return sides[ranked[0] ? 1 : 0];
      }
      if (whole[1]) return sides[1];
      if (whole[0]) return sides[0];
    }
    const first = bare.findIndex(Number.isNaN);
    const [line, wrong] = lines[Number.isNaN(bare[0]) ? 0 : first];
    return refuse(words.WRONG_LINE, { number: line, line: wrong.trim().slice(0, 40) });
  }

  /** The counts of a file's text, largest first, or the problem with it. */
  function read(name, text) {
    try {
      let counts = null;
      if (/^\s*[[{]/.test(text)) {
        let document;
        try { document = JSON.parse(text); } catch { document = null; }
        if (document !== null) counts = ofJson(document);
      }
      counts ??= ofLines(text);
      if (!counts.length) refuse(words.NO_COUNTS);
      const wrong = counts.findIndex((count) => !(Number.isFinite(count) && count >= 0));
      if (wrong >= 0) refuse(words.WRONG_COUNT, { number: wrong + 1, count: counts[wrong] });
      const total = counts.reduce((sum, count) => sum + count, 0);
      if (!(total > 0 && Number.isFinite(total))) refuse(words.NO_SUM);
      return { counts: Float64Array.from(counts).sort().reverse() };
    } catch (error) {
      if (error instanceof Refused)
        return { problem: `${facts.flags.tokens} 'counts:${name}': ${error.message}` };
      throw error;
    }
  }

  /** The counts that the page was written with. */
  function embedded({ runs, types }) {
    const counts = new Float64Array(types);
    let place = 0;
    for (const [value, size] of runs) {
      counts.fill(value, place, place + size);
      place += size;
    }
    return counts;
  }

  return { read, embedded, MOST_BYTES };
})();
