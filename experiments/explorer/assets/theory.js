// What the views show, from the generated formulas: values at a state, and why there is none.
"use strict";

const theory = (() => {
  const worded = (text, words) => text.replace(/\{(\w+)\}/g, (_, word) => words[word]);
  const { reasons, thresholds } = facts;

  /** A state with its token law and everything that several views need. */
  function model(state) {
    const law = laws.law(state.tokens);
    const kernel = facts.kernels[state.optimizer] ?? null;
    const one = {
      ...state,
      law,
      kernel,
      batch: state.batch_size > 0 ? "batch" : "full",
      directions: state.outputs === 1 ? "one" : "many",
      targets: state.outputs === 1 ? "sign" : "gaussian",
      moves: state.steps - 1,
      age: state.embedding_lr * (state.steps - 1),
      rows: new Map(),
    };
    one.at = (d, m, age = one.age) => {
      if (!one.rows.has(m)) one.rows.set(m, sums(one, m));
      const moves = age / one.embedding_lr;
      return { ...one.rows.get(m), d, theta: age, t: moves };
    };
    return one;
  }

  /** The values by symbol that do not depend on the width. */
  function sums(one, m) {
    const values = { m, n: one.outputs, n_eff: one.outputs, B: one.batch_size };
    for (const order of [2, 3, 4, 5, 6]) values[`P_${order}`] = one.law.powerSum(order, m);
    values.epsilon = one.embedding_lr;
    if (one.batch_size > 0) values.q = formulas.presence({ p_i: 1 / m, B: one.batch_size });
    return { ...values, ...facts.features };
  }

  const formula = (...names) => formulas[names.join(".")];
  const named = (text) => text.replace(/`(\w+)`/g, (_, field) => facts.flags[field] ?? field);

  function unavailable(reason, words = {}) {
    return { value: NaN, reason: named(worded(reason, words)) };
  }

  function noFirstStep(one) {
    if (one.kernel === null) return worded(reasons.NO_FIRST_STEP, { optimizer: one.optimizer });
    return null;
  }

  const signsOnly = (one, what) =>
    one.optimizer === "sign" || one.optimizer === "adam" ? null
      : worded(reasons.SIGNS_ONLY, { what });

  /** Why later updates have no formula here, whatever the sizes. */
  function noLaterSteps(one) {
    const signs = signsOnly(one, reasons.LATER);
    if (signs || one.batch === "full") return signs;
    const what = reasons.LATER_IN_BATCHES;
    if (!one.law.uniform) return worded(reasons.UNIFORM_ONLY, { what });
    return one.optimizer === "sign" ? null : worded(reasons.SIGN_ONLY, { what });
  }

  /** Why the projection's update at a point has no formula, or null. */
  function notCovered(one, values) {
    const { d, m } = values;
    if (m > one.law.largest)
      return `the token law has ${one.law.largest} types and no more`;
    const signs = one.kernel !== "sgd";
    const large = one.law.frequency(1, m) ** 2 > thresholds.LARGEST_SHARE * values.P_2;
    const variance = formula("output_variance", one.init)({ d });
    if (signs && large && variance >= thresholds.LARGEST_OUTPUT_VARIANCE)
      return reasons.RANDOM_RESIDUAL;
    const unequal = formula("error.unequal", one.kernel, one.targets, one.init, one.batch);
    if (unequal(values) > thresholds.LARGEST_ERROR) return reasons.UNEQUAL_RESIDUALS;
    const initial = formula("error.initial", one.kernel, one.init, one.batch);
    if (Math.abs(initial(values)) > thresholds.LARGEST_ERROR) return reasons.INITIAL_OUTPUT;
    if (values.theta === 0) return null;
    if (one.outputs > 1 && one.outputs < thresholds.MANY_OUTPUTS) return reasons.FEW_OUTPUTS;
    return formula("error.turned", one.init)(values) > 1 ? reasons.RESIDUALS_TURN : null;
  }

  /** Local exponent of the projection's update T at a width and a vocabulary. */
  function localExponent(one, d, m, age = one.age) {
    const problem = noFirstStep(one) ?? (age > 0 ? noLaterSteps(one) : null);
    if (problem) return unavailable(problem);
    const values = one.at(d, m, age);
    const outside = notCovered(one, values);
    return outside ? unavailable(outside) : { value: slope(one, values), reason: null };
  }

  const slope = (one, values) => values.theta > 0
    ? formula("aged.slope", one.directions, one.batch)(values)
    : formula("slope.projection", one.kernel, one.batch, one.init)(values);

  /**
   * The self term of the projection's first update: its size kappa, and the numbers with it where
   * the command leads with them. Null where there is no self term, or it is small.
   */
  function selfTerm(one, d = one.width, m = one.vocab_size) {
    if (one.kernel !== "sign") return null;
    const values = one.at(d, m);
    const kappa = formula("self_term", one.init)(values);
    if (!(kappa >= thresholds.SMALL_RATIO)) return null;
    const share = one.law.frequency(1, m);
    const { NOT_AVERAGED, NARROW, FREQUENT_TOKEN } = facts.self_term;
    let reason = null;
    if (one.batch === "batch") reason = NOT_AVERAGED;
    else if (d < thresholds.SELF_AVERAGING_WIDTH)
      reason = worded(NARROW, { width: thresholds.SELF_AVERAGING_WIDTH });
    else if (share > thresholds.SELF_AVERAGING_FREQUENCY)
      reason = worded(FREQUENT_TOKEN, { share: `${(100 * share).toFixed(1)}%` });
    if (reason) return { kappa, reason };
    return {
      kappa, reason, rms: formula("rms.self_term", one.init)(values),
      slope: formula("slope.self_term", one.init)(values),
    };
  }

  /** Local exponent at the point as the command leads with it: with a self term that is not small. */
  function pointExponent(one) {
    const own = one.age > 0 ? null : selfTerm(one);
    return own?.slope ? { value: own.slope, reason: null, own }
      : { ...localExponent(one, one.width, one.vocab_size), own };
  }

  /**
   * RMS at learning rate 1 and local exponent of a layer's update. Those of the first update are
   * the leading terms whatever their error, as the command gives them.
   */
  function update(one, layer, d) {
    const later = layer === "later";
    const problem = noFirstStep(one) ?? (later ? noLaterSteps(one) : null);
    if (problem) return { rms: NaN, slope: NaN, reason: named(problem) };
    const values = one.at(d, one.vocab_size);
    let names = [layer, one.kernel, one.batch, one.init];
    if (layer === "readout") names = [layer, one.kernel, one.batch];
    if (layer === "embedding" && one.batch === "batch")
      values.q = one.presence ??= one.law.mean(
        (p_i) => formulas.presence({ p_i, B: one.batch_size }), one.vocab_size);
    const outside = later ? notCovered(one, values) : null;
    if (outside) return { rms: NaN, slope: NaN, reason: named(outside) };
    if (later)
      return {
        rms: formula("aged.rms", one.directions, one.batch)(values),
        slope: formula("aged.slope", one.directions, one.batch)(values),
        reason: null,
      };
    const plain = {
      rms: formula("rms", ...names)(values), slope: formula("slope", ...names)(values), reason: null,
    };
    const own = layer === "projection" ? selfTerm(one, d) : null;
    return own?.rms ? { ...plain, rms: own.rms, slope: own.slope, own, plain } : { ...plain, own };
  }

  /** Coherent over incoherent power of the first update, averaged over tokens by frequency. */
  const coherence = (one, d, m) =>
    one.kernel === null ? NaN : formula("coherence", one.kernel, one.batch)(one.at(d, m));

  /** The same of update T once the embedding has moved, or why there is none; null at the first. */
  function agedCoherence(one) {
    if (!(one.age > 0)) return null;
    const values = one.at(one.width, one.vocab_size);
    const problem = noFirstStep(one) ?? noLaterSteps(one) ?? notCovered(one, values);
    return problem ? unavailable(problem)
      : { value: formula("aged.power", one.directions, one.batch)(values), reason: null };
  }

  /** The lines of the map: logarithms of ratios that are 1 on them. */
  function boundaries(one) {
    const lines = [];
    if (one.kernel === null) return lines;
    const signs = one.kernel === "sign";
    const log = (name, ratio) => lines.push({ name, ratio: (d, m) => Math.log(ratio(d, m)) });
    log("first step: ρ = 1", (d, m) => coherence(one, d, m));
    if (one.batch === "batch" && signs)
      log("tokens of the batch: ρ = 1", (d, m) => formula("coherence.own_tokens")(one.at(d, m)));
    if (one.age > 0 && noLaterSteps(one) === null)
      log("at this age: ρ = 1", (d, m) =>
        formula("aged.power", one.directions, one.batch)(one.at(d, m)));
    if (signs && one.init === "sp")
      log("initial output: κ = 1", (d, m) => formula("self_term", one.init)(one.at(d, m)));
    return lines;
  }

  /**
   * The largest vocabulary at which rho >= 1 at a width, of the first update or, `aged`, of update
   * T; null where there is no boundary.
   */
  function crossoverVocabulary(one, aged = false) {
    if (one.kernel === null) return null;
    const power = aged ? formula("aged.power", one.directions, one.batch)
      : formula("coherence", one.kernel, one.batch);
    const coherent = (m) => power(
      { ...sums(one, m), d: one.width, theta: one.age, t: one.moves }) >= 1;
    let [low, high] = [1, one.law.largest];
    if (!coherent(low)) return null;
    if (aged) { // learning aligns more where the vocabulary is large, so that it may end in between
      const places = Array.from({ length: PLACES }, (_, k) => Math.round(high ** ((k + 1) / PLACES)));
      high = places.find((m) => !coherent(m)) ?? high;
    }
    if (coherent(high)) return null;
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (coherent(middle)) low = middle;
      else high = middle;
    }
    return low;
  }

  /** One-step optimal and maximal-update ratio of the learning rates at a width. */
  function rateRatio(one, d) {
    const problem = signsOnly(one, reasons.OPTIMAL_RATIO)
      ?? (one.batch === "batch" ? reasons.RATES_OF_FULL_BATCH : null)
      ?? (one.outputs > 1 ? reasons.RATES_OF_ONE_OUTPUT : null);
    if (problem) return { ...unavailable(problem), maximal: NaN };
    const values = one.at(d, one.vocab_size);
    const gradient = thresholds.NEGLIGIBLE * formula("gradient_size", one.init)(values);
    const maximal = formula("maximal_update_ratio", one.init)(values);
    if (one.optimizer === "adam" && thresholds.EPSILON > gradient)
      return { ...unavailable(reasons.LARGE_EPSILON), maximal };
    return { value: formula("optimal_ratio", one.init)(values), reason: null, maximal };
  }

  /** Which tokens are in the muP regime: how many types, which share of the occurrences. */
  function tokenRegimes(one) {
    const problem = signsOnly(one, reasons.MUP_SHARE);
    if (problem) return { reason: named(problem), types: NaN, share: NaN };
    const values = one.at(one.width, one.vocab_size);
    const least = formula("crossover_frequency", one.batch)(values);
    let [low, high] = [0, one.vocab_size];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (one.law.frequency(middle, one.vocab_size) > least) low = middle;
      else high = middle - 1;
    }
    return { types: low, share: one.law.mass(low, one.vocab_size), reason: null };
  }

  const tokenCoherence = (one, rank) => formula("coherence.token", one.batch)({
    ...one.at(one.width, one.vocab_size), p_i: one.law.frequency(rank, one.vocab_size),
  });

  /** The end of the LV regime: displacement, steps and visits of a token; 0 where it starts muP. */
  function lifetime(one) {
    const problem = noLaterSteps(one);
    if (problem) return { reason: named(problem), end: NaN };
    const power = formula("aged.visited", one.directions, one.batch);
    const coherent = (moves) => power(one.at(one.width, one.vocab_size, moves)) >= 1;
    const chance = one.batch === "batch" ? one.at(one.width, one.vocab_size).q : 1;
    let [low, high, end] = [0, 1, 0];
    if (!coherent(0)) {
      for (let k = 0; k < 60 && !coherent(high); k++) [low, high] = [high, 2 * high];
      for (let k = 0; k < 60; k++) {
        const middle = (low + high) / 2;
        if (coherent(middle)) high = middle;
        else low = middle;
      }
      end = (low + high) / 2;
    }
    return {
      end, chance, reason: null, steps: end / one.embedding_lr / chance,
      visits: end / one.embedding_lr,
    };
  }

  const PLACES = 24; // vocabularies that are looked at for the end of the muP regime at update T

  /** Whether an update is in the muP regime where tokens have moved by `moved`. */
  const agedIsCoherent = (one, moved) => formula("aged.visited", one.directions, one.batch)(
    one.at(one.width, one.vocab_size, moved)) >= 1;

  /** Local exponent where tokens have moved by `moved`, which takes more steps in batches. */
  const agedExponent = (one, moved, chance) => formula("aged.slope", one.directions, one.batch)(
    one.at(one.width, one.vocab_size, moved / chance));

  /** By what each rule multiplies every layer's learning rate from the base width on. */
  function rules(one, width = one.width) {
    const growth = width / one.base_width;
    const powers = facts.rules[one.optimizer];
    const factors = (of) => Object.fromEntries(
      Object.entries(of).map(([layer, power]) => [layer, growth ** power]));
    const values = one.at(width, one.vocab_size);
    const lost = one.kernel === null ? 1 : formula("hidden_growth", one.kernel)(
      { d: width, d_0: one.base_width, C: values.P_3 / values.P_2 });
    const mup = factors(powers.mup);
    const unaligned = mup.hidden / factors(powers.lv).hidden;
    return [["muP", 1], ["LV", unaligned], ["interpolated", lost]].map(([name, incoherence]) => {
      const all = { ...mup, embedding: mup.embedding * incoherence };
      return { name, factors: all, ratio: all.embedding / all.hidden };
    });
  }

  const published = (one, width = one.width) => facts.published.map((rule) => {
    const growth = width / one.base_width;
    const factors = Object.fromEntries(
      ["embedding", "hidden", "readout"].map((layer) => [layer, growth ** rule.powers[layer]]));
    return { ...rule, factors, ratio: growth ** rule.power };
  });

  return {
    model, localExponent, pointExponent, selfTerm, update, coherence, agedCoherence, boundaries, crossoverVocabulary, rateRatio,
    tokenRegimes, tokenCoherence, lifetime, agedExponent, agedIsCoherent, rules, published, noLaterSteps,
    notCovered, named,
  };
})();
