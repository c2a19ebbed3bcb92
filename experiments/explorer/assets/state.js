// The fields' values: how they are read from text, refused, written and kept in the address.
"use strict";

const states = (() => {
  const integers = new Set(facts.fields.filter((one) => one.kind === "integer").map((one) => one.name));
  const names = facts.fields.map((one) => one.name);

  /** A refusal in the words of the command. */
  function refused(field, given, allowed) {
    return { problem: `${facts.flags[field]} ${given}: ${theory.named(allowed)}` };
  }

  const quoted = (text) => `'${text}'`;

  function integer(field, text) {
    const [low, high] = [facts.limits[`least_${field}`], facts.limits[field]];
    if (!/^[+-]?\d+$/.test(text)) return refused(field, quoted(text), facts.allowed.integer);
    const value = Number(text);
    return value >= low && value <= high ? { value } : refused(field, text, facts.allowed[field]);
  }

  function rate(field, text) {
    if (!/^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|nan)$/i.test(text))
      return refused(field, quoted(text), facts.allowed.number);
    const value = Number(text); // inf and nan are in no range
    const [low, high] = [facts.limits[`least_${field}`], facts.limits[field]];
    return value >= low && value <= high ? { value } : refused(field, text, facts.allowed[field]);
  }

  function tokens(text) {
    const [kind, ...rest] = text.split(":");
    const detail = rest.join(":");
    if (laws.files.has(text)) return { value: text };
    if (kind === "uniform" && !text.includes(":")) return { value: text };
    if (kind === "zipf" && detail !== "") {
      const alpha = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(detail) ? Number(detail) : NaN;
      if (alpha >= 0 && alpha <= facts.limits.zipf) return { value: text };
      return refused("tokens", quoted(text), facts.allowed.zipf);
    }
    if (["counts", "corpus", "tokenizer"].includes(kind) && text !== `${kind}:`)
      return {
        problem: `${facts.flags.tokens} ${quoted(text)}: this page does not hold it; drop a file of `
          + "counts here, or write the page with dynsim explore --tokens",
      };
    return refused("tokens", quoted(text), facts.allowed.tokens);
  }

  /** The value that a field's text is, or the problem with it. */
  function read(field, text) {
    const given = String(text).trim();
    if (field === "tokens") return tokens(given);
    if (integers.has(field)) return integer(field, given);
    const known = facts.fields.find((one) => one.name === field);
    if (known.kind === "number") return rate(field, given);
    return known.choices.some(([name]) => name === given) ? { value: given }
      : refused(field, quoted(given), facts.allowed[field]);
  }

  /** What is wrong with a state whose fields are right one by one, by field. */
  function together(state) {
    const problems = {};
    if (state.outputs > state.vocab_size)
      problems.outputs = refused("outputs", state.outputs, facts.allowed.outputs_of_vocabulary).problem;
    const types = laws.files.get(state.tokens)?.length;
    if (types !== undefined && state.vocab_size > types)
      problems.vocab_size = refused("vocab_size", state.vocab_size,
        `must be at most ${types}, the types in ${state.tokens}`).problem;
    return problems;
  }

  /** All fields from their texts: the state, and the problems by field. */
  function readAll(texts) {
    const [state, problems] = [{}, {}];
    for (const name of names) {
      const { value, problem } = read(name, texts[name]);
      if (problem) problems[name] = problem;
      else state[name] = value;
    }
    return { state, problems: Object.keys(problems).length ? problems : together(state) };
  }

  const written = (state) => names.map((name) =>
    `${name}=${encodeURIComponent(state[name]).replaceAll("%3A", ":").replaceAll("%2F", "/")}`).join("&");

  /** Texts by field from the part of the address behind #; what it does not name is the default. */
  function fromAddress(hash) {
    const given = new URLSearchParams(hash.replace(/^#/, ""));
    const texts = {};
    for (const name of names) texts[name] = given.get(name) ?? String(facts.state[name]);
    return texts;
  }

  return { names, read, readAll, written, fromAddress };
})();
