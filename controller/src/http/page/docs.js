// Shows openapi.json: operations by tag, what goes in and out, and a form that tries them.
// Whatever comes from the document or from an answer is put in as text, never as markup; the token stays in this page.
"use strict";

const $ = (id) => document.getElementById(id);

/** An element with attributes and children; texts become text. */
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (value !== undefined && value !== null) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

let whole = {};
const resolve = (at) => (at && at.$ref ? at.$ref.slice(2).split("/").reduce((here, step) => here[step], whole) : at || {});

/** A schema in a few words. */
function words(schema) {
  const of = resolve(schema);
  const name = schema && schema.$ref ? schema.$ref.split("/").pop() : "";
  const any = of.anyOf || of.oneOf;
  const kind = name || (any ? any.map(words).join(" or ") : [].concat(of.type || "anything").join(" or "));
  const bounds = [
    of.enum && `one of ${of.enum.join(", ")}`,
    of.items && `of ${words(of.items)}`,
    of.minimum !== undefined && `from ${of.minimum}`,
    of.maximum !== undefined && `to ${of.maximum}`,
    of.minLength && `at least ${of.minLength} long`,
    of.maxLength !== undefined && `at most ${of.maxLength} long`,
    of.pattern && `like ${of.pattern}`,
    of.default !== undefined && of.default !== null && `default ${JSON.stringify(of.default)}`,
  ].filter(Boolean);
  return name || !bounds.length ? kind : `${kind}, ${bounds.join(", ")}`;
}

/** An example of a schema: what has to be there, and not deeper than a reader looks. */
function example(schema, depth = 0) {
  const of = resolve(schema);
  if (of.default !== undefined && of.default !== null) return of.default;
  if (of.const !== undefined) return of.const;
  if (of.enum) return of.enum[0];
  const any = of.anyOf || of.oneOf;
  if (any && !of.properties) return example(any[0], depth);
  const kind = [].concat(of.type || "object")[0];
  if (kind === "object") {
    // what has to come; where nothing has to, what there is to choose from
    const all = Object.entries(of.properties || {});
    const needed = all.filter(([key]) => (of.required || []).includes(key));
    const wanted = needed.length || depth ? needed : all;
    return depth > 4 ? {} : Object.fromEntries(wanted.map(([key, value]) => [key, example(value, depth + 1)]));
  }
  if (kind === "array") return depth > 4 ? [] : [example(of.items, depth + 1)];
  if (kind === "integer" || kind === "number") return of.minimum > 0 ? of.minimum : 0;
  return kind === "boolean" ? false : "";
}

/** The fields of a schema, each a row. */
function fields(schema) {
  const of = resolve(schema);
  const rows = Object.entries(of.properties || {}).map(([key, value]) =>
    make("tr", {}, make("td", {}, key + ((of.required || []).includes(key) ? " *" : "")), make("td", {}, words(value)),
      make("td", {}, value.description || resolve(value).description || "")));
  return rows.length ? make("table", {}, rows) : make("pre", {}, words(schema));
}

const jsonOf = (content) => content && (content["application/json"] || content["application/problem+json"] || {}).schema;

/** The form of an operation and where its answer goes. */
function form(path, method, operation) {
  const inputs = [];
  const rows = (operation.parameters || []).map((parameter) => {
    const schema = resolve(parameter.schema);
    const choices = schema.enum || (schema.type === "boolean" && ["true", "false"]);
    const input = choices
      ? make("select", {}, make("option", { value: "" }, ""), choices.map((one) => make("option", { value: one }, String(one))))
      : make("input", { placeholder: parameter.in === "header" ? "" : parameter.name });
    inputs.push([parameter, input]);
    return make("tr", {}, make("td", {}, parameter.name + (parameter.required ? " *" : "")),
      make("td", {}, `${parameter.in}: ${words(parameter.schema)}`), make("td", {}, parameter.description || ""), make("td", {}, input));
  });
  const content = operation.requestBody && operation.requestBody.content;
  const shape = jsonOf(content);
  const body = shape && make("textarea", { spellcheck: "false", "aria-label": "body" });
  if (body) body.value = JSON.stringify(example(shape), null, 2);
  const answer = make("pre", { hidden: "" });
  const run = async (event) => {
    event.preventDefault();
    const show = (text, bad) => { answer.hidden = false; answer.className = bad ? "bad" : ""; answer.textContent = text; };
    let target = path;
    const query = new URLSearchParams();
    const headers = {};
    if ($("token").value) headers["X-Auth-Token"] = $("token").value.trim();
    for (const [parameter, input] of inputs) {
      if (parameter.in === "path") {
        // a path's slashes are its own; all else is one part of it
        const parts = parameter.name === "path" ? input.value.split("/") : [input.value];
        target = target.replace(`{${parameter.name}}`, parts.map(encodeURIComponent).join("/"));
      } else if (input.value && parameter.in === "query") query.set(parameter.name, input.value);
      else if (input.value) headers[parameter.name] = input.value;
    }
    if (body && body.value.trim()) headers["Content-Type"] = "application/json";
    const url = query.size ? `${target}?${query}` : target;
    show("…");
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 30000);
    try {
      const got = await fetch(url, {
        method: method.toUpperCase(), headers, body: body && body.value.trim() ? body.value : undefined,
        signal: stop.signal, credentials: "omit", redirect: "error", referrerPolicy: "no-referrer",
      });
      const text = await got.text();
      let shown = text;
      try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON: as it is */ }
      const named = ["etag", "location", "retry-after", "x-request-id"].filter((name) => got.headers.get(name));
      show([`${method.toUpperCase()} ${url}`, `${got.status} ${got.statusText}`, ...named.map((name) => `${name}: ${got.headers.get(name)}`), "", shown].join("\n"), !got.ok);
    } catch (error) {
      show(`${url}: ${error.message}`, true);
    }
  };
  return make("form", { on: { submit: run } },
    rows.length ? [make("h3", {}, "Parameters"), make("table", {}, rows)] : null,
    shape ? [make("h3", {}, `Body${operation.requestBody.required ? "" : " (may be left out)"}: ${words(shape)}`), fields(shape), body] : null,
    content && !shape ? make("h3", {}, `Body: ${Object.keys(content).join(", ")} (try it from a program)`) : null,
    make("p", {}, make("button", {}, "Try it")), answer);
}

function answers(operation) {
  return make("table", {}, Object.entries(operation.responses || {}).map(([status, given]) => {
    const of = resolve(given);
    const shape = jsonOf(of.content);
    return make("tr", {}, make("td", {}, status), make("td", {}, of.description || ""),
      make("td", {}, shape ? words(shape) : Object.keys(of.content || {}).join(", ")));
  }));
}

function card(path, method, operation) {
  const inside = make("div", { class: "inside" });
  const all = make("details", { class: `operation${operation.deprecated ? " deprecated" : ""}` },
    make("summary", {}, make("span", { class: `method ${method}` }, method.toUpperCase()), make("span", { class: "path" }, path),
      make("span", { class: "says" }, operation.summary || "")), inside);
  // what is not looked at is not made
  all.addEventListener("toggle", () => {
    if (!all.open || inside.childElementCount) return;
    inside.append(make("p", {}, `${operation.summary || ""} ${operation.description || ""}`), form(path, method, operation),
      make("h3", {}, "Answers"), answers(operation));
  });
  all.dataset.words = `${method} ${path} ${operation.summary || ""}`.toLowerCase();
  return all;
}

function find() {
  const wanted = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of document.querySelectorAll("section")) {
    let any = false;
    for (const one of section.querySelectorAll("details.operation")) {
      one.hidden = !wanted.every((word) => one.dataset.words.includes(word));
      any = any || !one.hidden;
    }
    section.hidden = !any;
  }
}

async function begin() {
  whole = await (await fetch("openapi.json")).json();
  const main = $("main");
  main.replaceChildren(make("p", {}, whole.info.description), make("p", {}, make("a", { href: "openapi.json" }, "openapi.json")));
  for (const { name } of whole.tags) {
    const cards = Object.entries(whole.paths).flatMap(([path, operations]) =>
      Object.entries(operations).filter(([, operation]) => operation.tags.includes(name)).map(([method, operation]) => card(path, method, operation)));
    main.append(make("section", {}, make("h2", {}, name), cards));
  }
  $("find").addEventListener("input", find);
  const wanted = decodeURIComponent(location.hash.slice(1));
  if (wanted) {
    $("find").value = wanted;
    find();
    const first = document.querySelector("details.operation:not([hidden])");
    if (first) first.open = true;
  }
}

begin().catch((error) => $("main").replaceChildren(make("p", { class: "bad" }, `openapi.json cannot be read: ${error.message}`)));
