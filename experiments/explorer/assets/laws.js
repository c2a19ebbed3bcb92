// Token laws: how often each token occurs, and the sums over tokens that the formulas need.
"use strict";

const laws = (() => {
  const HEAD = 2048; // ranks that are added one by one; the rest is an integral, octave by octave

  /** Sums over the ranks 1..m of a function that is smooth beyond the head. */
  function sumOverRanks(summand) {
    const head = new Float64Array(HEAD + 1);
    for (let rank = 1; rank <= HEAD; rank++) head[rank] = head[rank - 1] + summand(rank);
    const octaves = [head[HEAD]];
    const slope = (rank) => summand(rank + 1) - summand(rank);
    const between = (low, high) => {
      // sum_{low < i <= high} = the integral from low + 1/2 to high + 1/2 - its midpoint error
      const [middle, half] = [(low + high + 1) / 2, (high - low) / 2];
      const sum = facts.gauss.nodes.reduce(
        (total, node, k) => total + facts.gauss.weights[k] * summand(middle + half * node), 0);
      return half * sum - (slope(high) - slope(low)) / 24;
    };
    return (m) => {
      if (m <= HEAD) {
        const whole = Math.floor(m);
        return head[whole] + (m > whole ? (m - whole) * (head[whole + 1] - head[whole]) : 0);
      }
      const octave = Math.floor(Math.log2(m / HEAD));
      for (let k = octaves.length; k <= octave; k++)
        octaves.push(octaves[k - 1] + between(HEAD * 2 ** (k - 1), HEAD * 2 ** k));
      return octaves[octave] + between(HEAD * 2 ** octave, m);
    };
  }

  const ORDERS = [1, 2, 3, 4, 5, 6];

  function powerLaw(name, alpha) {
    const weight = (rank, order) => formulas.zipf_weight({ i: rank, alpha: alpha * order });
    const sums = ORDERS.map((order) => sumOverRanks((rank) => weight(rank, order)));
    const total = (m) => sums[0](m);
    return {
      name,
      uniform: alpha === 0,
      largest: facts.limits.vocab_size,
      powerSum: (order, m) => sums[order - 1](m) / total(m) ** order,
      frequency: (rank, m) => weight(rank, 1) / total(m),
      mass: (count, m) => total(count) / total(m),
      mean(of, m) {
        const all = total(m);
        if (alpha === 0) return of(1 / all);
        return sumOverRanks((rank) => (weight(rank, 1) / all) * of(weight(rank, 1) / all))(m);
      },
    };
  }

  /** Counts of a file, largest first; a smaller vocabulary has the most frequent types. */
  function countedLaw(name, counts) {
    const sums = ORDERS.map((order) => {
      const sum = new Float64Array(counts.length + 1);
      for (let k = 0; k < counts.length; k++)
        sum[k + 1] = sum[k] + (counts[k] / counts[0]) ** order;
      return sum;
    });
    const upTo = (order, m) => {
      const [sum, types] = [sums[order - 1], Math.min(m, counts.length)];
      const whole = Math.floor(types);
      return sum[whole] + (types > whole ? (types - whole) * (sum[whole + 1] - sum[whole]) : 0);
    };
    const share = (rank, m) => (counts[rank - 1] ?? 0) / counts[0] / upTo(1, m);
    return {
      name,
      uniform: counts.every((count) => count === counts[0]),
      largest: counts.length,
      powerSum: (order, m) => upTo(order, m) / upTo(1, m) ** order,
      frequency: (rank, m) => share(Math.round(rank), m),
      mass: (count, m) => upTo(1, count) / upTo(1, m),
      mean(of, m) {
        let [sum, rank] = [0, 1];
        for (; rank <= Math.min(m, counts.length); rank++) sum += share(rank, m) * of(share(rank, m));
        return sum;
      },
    };
  }

  const known = new Map(); // the last laws, so that a slider does not sum again
  const files = new Map(); // counts by the name under which they were given

  function law(name) {
    if (!known.has(name)) {
      if (known.size > 20) known.clear();
      const [kind, detail] = [name.split(":", 1)[0], name.slice(name.indexOf(":") + 1)];
      if (kind === "uniform") known.set(name, powerLaw(name, 0));
      else if (kind === "zipf") known.set(name, powerLaw(name, Number(detail)));
      else known.set(name, countedLaw(name, files.get(name)));
    }
    return known.get(name);
  }

  let added = 0;
  function addCounts(name, counts) {
    added += 1;
    files.set(name, counts);
    known.delete(name);
  }

  return { law, addCounts, files, changes: () => added };
})();
