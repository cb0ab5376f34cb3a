"use strict";
// The page's behaviour: forms that call the API in JSON, streams shown line by
// line, a filter, and the state of the host.

// remembered are answers that later requests need: the form's user would copy
// them from one place to another.
const remembered = ["sessionId", "token"];

// request returns the JSON of a form, or null after marking what is no JSON.
function request(form) {
  const body = {};
  let ok = true;
  for (const el of form.querySelectorAll("[data-input]")) {
    el.removeAttribute("aria-invalid");
    const text = el.value.trim();
    switch (el.dataset.input) {
      case "bool":
        if (el.checked) body[el.name] = true;
        break;
      case "json":
        if (text === "") break;
        try {
          body[el.name] = JSON.parse(text);
        } catch {
          el.setAttribute("aria-invalid", "true");
          if (ok) el.focus();
          ok = false;
        }
        break;
      default:
        if (text !== "") body[el.name] = text;
    }
  }
  return ok ? JSON.stringify(body) : null;
}

function say(form, text, ok) {
  const result = form.querySelector(".result");
  result.textContent = text;
  result.dataset.ok = ok === undefined ? "" : ok ? "yes" : "no";
}

function show(form, text) {
  const out = form.querySelector(".output");
  out.hidden = false;
  out.textContent = text;
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

// remember puts what an answer gave into the fields of other forms that want it.
function remember(text) {
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    return;
  }
  for (const name of remembered) {
    if (typeof answer[name] !== "string" || answer[name] === "") continue;
    for (const el of document.querySelectorAll(`input[name="${name}"]`)) {
      if (el.value === "" || el.dataset.remembered === el.value) {
        el.value = answer[name];
        el.dataset.remembered = answer[name];
      }
    }
  }
}

function failure(text) {
  try {
    const e = JSON.parse(text);
    return (e.error || e).message || (e.error || e).code || "failed";
  } catch {
    return text.slice(0, 200) || "failed";
  }
}

// A host that asks who calls wants a token. It is kept nowhere but in its field.
const callerToken = document.getElementById("caller-token");

function headers() {
  const all = { "Content-Type": "application/json" };
  if (callerToken.value !== "") all.Authorization = `Bearer ${callerToken.value.trim()}`;
  return all;
}

function askForToken() {
  callerToken.form.hidden = false;
  callerToken.select();
}

callerToken.form.addEventListener("submit", (event) => event.preventDefault());

async function call(form, method, signal) {
  const body = request(form);
  if (body === null) {
    say(form, "A field is not JSON.", false);
    return;
  }
  const started = performance.now();
  say(form, "Calling…");
  const answer = await fetch(method.dataset.path, { method: "POST", headers: headers(), body, signal });
  if (method.dataset.stream === "server" && answer.ok) {
    await watch(form, answer);
    return;
  }
  const text = await answer.text();
  const took = `${Math.max(1, Math.round(performance.now() - started))} ms`;
  show(form, pretty(text));
  if (answer.ok) {
    say(form, `OK in ${took}`, true);
    remember(text);
  } else {
    say(form, `${answer.status}: ${failure(text)}`, false);
    if (answer.status === 401) askForToken();
  }
}

// maxLines is how much of a stream the page keeps.
const maxLines = 500;

async function watch(form, answer) {
  const lines = [];
  let count = 0;
  let rest = "";
  let failed = "";
  show(form, "");
  say(form, "Waiting for the first message…");
  const out = form.querySelector(".output");
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    rest += value;
    const parts = rest.split("\n");
    rest = parts.pop();
    for (const line of parts) {
      if (line.startsWith('{"error":')) failed = failure(line);
      else count++;
      lines.push(line);
      if (lines.length > maxLines) lines.shift();
    }
    const follow = out.scrollTop + out.clientHeight >= out.scrollHeight - 8;
    out.textContent = lines.join("\n");
    if (follow) out.scrollTop = out.scrollHeight;
    say(form, `${count} received, live`, true);
  }
  say(form, failed || `${count} received, ended`, failed === "");
}

function quote(s) {
  return "'" + s.replaceAll("'", "'\\''") + "'";
}

function curl(form, method) {
  const body = request(form);
  if (body === null) return;
  const flags = method.dataset.stream === "server" ? "-N " : "";
  // The token itself is not for a clipboard, or a shell's history.
  const who = callerToken.value === "" ? "" : `-H "Authorization: Bearer $CONCLAVE_AUTH_TOKEN" `;
  const command = `curl ${flags}${who}-H 'Content-Type: application/json' -d ${quote(body)} ${location.origin}${method.dataset.path}`;
  const shown = () => {
    show(form, command);
    say(form, "The command is below.");
  };
  if (!navigator.clipboard) {
    shown();
    return;
  }
  navigator.clipboard.writeText(command).then(() => {
    show(form, command);
    say(form, "Copied.", true);
  }, shown);
}

function wire(method) {
  const form = method.querySelector("form.call");
  if (!form) return;
  const submit = form.querySelector(".primary");
  const stop = form.querySelector(".stop");
  let running = null;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return;
    if (method.dataset.permission === "admin" && !confirm("This method acts on what others own. Call it?")) return;
    running = new AbortController();
    submit.disabled = true;
    stop.hidden = false;
    try {
      await call(form, method, running.signal);
    } catch (err) {
      say(form, running.signal.aborted ? "Stopped." : `No answer: ${err.message}`, running.signal.aborted);
    } finally {
      running = null;
      submit.disabled = false;
      stop.hidden = true;
    }
  });
  stop.addEventListener("click", () => running && running.abort());
  form.querySelector(".copy").addEventListener("click", () => curl(form, method));
}

function filter(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  let any = false;
  for (const method of document.querySelectorAll(".method")) {
    const has = (method.dataset.path + " " + method.querySelector("summary").textContent).toLowerCase();
    method.hidden = !words.every((w) => has.includes(w));
    any ||= !method.hidden;
  }
  for (const box of document.querySelectorAll(".service, .recipe")) {
    box.hidden = words.length > 0 && !box.querySelector(".method:not([hidden])");
  }
  document.getElementById("nothing").hidden = any || words.length === 0;
}

// open shows the method that the address names.
function open() {
  const el = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (el && el.matches("details")) el.open = true;
}

const status = document.getElementById("status");
const statusText = document.getElementById("status-text");
const host = statusText.textContent;

async function poll() {
  let state = "gone";
  let text = "does not answer";
  try {
    const answer = await fetch("/readyz", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    state = answer.ok ? "ready" : "busy";
    text = answer.ok ? "is ready" : "is not ready";
  } catch {
    // The state says it.
  }
  if (status.dataset.state !== state) {
    status.dataset.state = state;
    statusText.textContent = `${host} ${text}`;
  }
  setTimeout(poll, document.hidden ? 30000 : 5000);
}

document.querySelectorAll(".method").forEach(wire);
const box = document.getElementById("filter");
box.closest("label").hidden = false;
box.addEventListener("input", () => filter(box.value));
addEventListener("hashchange", open);
open();
poll();
