// The command and the Python call that give the numbers of a view.
"use strict";

const commands = (() => {
  const quote = (text) => (/^[\w.:=/^*+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  const line = (...words) => ["dynsim", ...words.flat().map(String).map(quote)].join(" ");
  const option = (field, value) => [facts.flags[field], value];
  const sizes = (one) => [...option("width", one.width), ...option("vocab_size", one.vocab_size)];
  const tokens = (one) => option("tokens", one.tokens);
  const batch = (one) => (one.batch_size ? option("batch_size", one.batch_size) : []);
  const init = (one) => (one.init === "mup" ? [] : option("init", one.init));
  const optimizer = (one) => option("optimizer", one.optimizer);
  const later = (one) => (one.steps === 1 ? [] : [
    ...option("steps", one.steps), ...option("embedding_lr", one.embedding_lr),
    ...option("outputs", one.outputs)]);
  const axis = (name, low, high, count = 200) => `${name}=${low}:${high}:${count}`;
  const at = (name, value) => axis(name, value, 2 * value, 2);

  const HEAD = 'import jax\njax.config.update("jax_enable_x64", True)\nimport dynsim\n';
  const text = (value) => JSON.stringify(value);
  const law = (one) => `law = dynsim.token_law(${text(one.tokens)}, ${one.vocab_size})\n`;
  const inBatch = (one) => (one.batch_size ? `, batch_size=${one.batch_size}` : "");

  function mapOf(one, x, y) {
    return line("map", "--x", x, "--y", y, tokens(one), batch(one), optimizer(one), init(one),
      later(one));
  }

  function firstStep(one, layer) {
    const extra = layer === "readout" ? ', activation="relu"'
      : outputsOf(one, layer) > 1 ? `, outputs=${one.outputs}` : "";
    return `dynsim.first_step(${text(layer)}, ${text(one.optimizer)}, ${one.width}, law`
      + `${inBatch(one)}, init=${text(one.init)}${extra})`;
  }

  /** Python of the projection's first update, with the self term where the command leads with it. */
  const projection = (one) => (theory.selfTerm(one)?.rms
    ? `dynsim.theory.self_term_step(${one.width}, law, init=${text(one.init)})`
    : firstStep(one, "projection"));

  function agedUpdate(one) {
    const rate = one.batch_size ? `, embedding_lr=${one.embedding_lr}` : "";
    return `dynsim.aged_update(${one.width}, law, ${one.age}, effective_outputs=${one.outputs}`
      + `${inBatch(one)}${rate})`;
  }

  const outputsOf = (one, layer) => (layer === "embedding" && one.outputs > 1 ? one.outputs : 1);
  const derive = (one, layer) => line("derive", "--layer", layer, sizes(one), tokens(one), batch(one),
    optimizer(one), init(one), outputsOf(one, layer) > 1 ? option("outputs", one.outputs) : [],
    layer === "readout" ? ["--activation", "relu"] : []);
  const ofFile = (one) => one.tokens.startsWith("counts:");

  const of = {
    map: (one, ranges) => ({
      shell: [
        ["where the μP regime ends, and the first update", derive(one, "projection")],
        ...(one.steps > 1 ? [[`update ${one.steps}: the first value`,
          `${mapOf(one, at("width", one.width), at("vocab_size", one.vocab_size))} --json`]] : []),
        ["the whole map", mapOf(one, axis("width", ...ranges.width), axis("vocab_size", ...ranges.vocab_size)),
          "whatever the point"],
      ],
      python: HEAD + law(one) + (one.steps > 1
        ? `print(${agedUpdate(one)}.local_exponent)`
        : `print(${projection(one)}.local_exponent)`),
    }),
    updates: (one) => ({
      shell: ["embedding", "projection", "readout"].map((layer) => [layer, derive(one, layer)]),
      python: HEAD + law(one) + ["embedding", "projection", "readout"].map(
        (layer) => `print(${layer === "projection" ? projection(one) : firstStep(one, layer)})`).join("\n")
        + (one.steps > 1 && !theory.update(one, "later", one.width).reason
          ? `\nprint(${agedUpdate(one)})` : ""),
    }),
    ratio: (one) => ({
      shell: [
        ...(ofFile(one) ? [] : [["best for one step: the first value",
          `${line("map", "--colour", "optimal_rate_ratio", "--x", at("width", one.width), "--y",
            at("vocab_size", one.vocab_size), tokens(one), optimizer(one), init(one))} --json`]]),
        ["published rules",
          line("parametrization", "--compare", sizes(one), option("base_width", one.base_width)),
          "whatever the point"],
      ],
      python: `${HEAD}${law(one)}rates = dynsim.optimal_learning_rates(${one.width}, law, `
        + `init=${text(one.init)})\nprint(rates.embedding / rates.projection)`,
    }),
    tokens: (one) => ({
      shell: [["tokens in the μP regime", one.batch_size
        ? `${line("map", "--colour", "mup_share", "--x", at("width", one.width), "--y",
          at("vocab_size", one.vocab_size), tokens(one), batch(one), optimizer(one))} --json`
        : line("tokens", one.tokens, sizes(one).slice(2), sizes(one).slice(0, 2))]],
      python: one.batch_size
        ? `${HEAD}print(dynsim.regime_map("mup_share", "${at("width", one.width)}", `
          + `"${at("vocab_size", one.vocab_size)}", tokens=${text(one.tokens)}, `
          + `optimizer=${text(one.optimizer)}${inBatch(one)}).values[0, 0])`
        : `${HEAD}${law(one)}ratio = dynsim.coherence(${one.width}, law)\n`
          + "print(law.frequencies[ratio > 1].sum())",
    }),
    life: (one) => ({
      shell: [["the end of the LV regime", line("lifetime", sizes(one), one.law.uniform ? [] : tokens(one),
        option("outputs", one.outputs), option("embedding_lr", one.embedding_lr), batch(one))]],
      python: one.law.uniform
        ? `${HEAD}print(dynsim.restoration_displacement(${one.width}, ${one.vocab_size}, `
          + `effective_outputs=${one.outputs}${inBatch(one)}))`
        : `${HEAD}from dynsim.theory import law_restoration_displacement\n${law(one)}`
          + `print(law_restoration_displacement(${one.width}, law, effective_outputs=${one.outputs}))`,
    }),
    rules: (one) => ({
      shell: [
        ["three rules", line("recommend", sizes(one), tokens(one),
          option("base_width", one.base_width), optimizer(one))],
        ...(one.optimizer === "adam" ? [["published rules",
          line("parametrization", "--compare", sizes(one), option("base_width", one.base_width))]] : []),
      ],
      python: `${HEAD}print(dynsim.recommend(${one.width}, ${one.base_width}, ${one.vocab_size}, `
        + `${text(one.tokens)}, optimizer=${text(one.optimizer)}))`,
    }),
  };

  return { of };
})();
