// Evaluates generated formulas: argv are the script, a file of points by name, and the results' file.
import { readFileSync, writeFileSync } from "node:fs";
import vm from "node:vm";

const [script, points, results] = process.argv.slice(2);
const { formulas, erf } = vm.runInNewContext(
  `${readFileSync(script, "utf8")}\n({ formulas, erf })`);
const found = {};
for (const [name, { symbols, rows }] of Object.entries(JSON.parse(readFileSync(points, "utf8")))) {
  const evaluate = name === "erf" ? ({ x }) => erf(x) : formulas[name];
  found[name] = rows.map((row) => {
    const value = evaluate(Object.fromEntries(symbols.map((symbol, k) => [symbol, row[k]])));
    return Number.isFinite(value) ? value : String(value);
  });
}
writeFileSync(results, JSON.stringify(found));
