// The chat page: sign-in, conversations in this browser's storage, answers as they come.

import { render } from "/markdown.js";
import { WORDS } from "/words.js";

const at = (id) => document.getElementById(id);
const say = (word) => WORDS[state.language][word];
const state = {
  language: localStorage.getItem("empu.language") ?? (navigator.language.startsWith("id") ? "id" : "en"),
  talks: stored("empu.talks", []),
  open: null,
  leaving: null,
};

function stored(name, otherwise) {
  try {
    const found = JSON.parse(localStorage.getItem(name));
    return Array.isArray(found) ? found : otherwise;
  } catch {
    return otherwise;
  }
}

function save() {
  try {
    localStorage.setItem("empu.talks", JSON.stringify(state.talks));
  } catch {
    tell(say("full"));
  }
}

function tell(text) {
  at("status").textContent = text;
}

async function post(path, value, signal) {
  return fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value), signal });
}

// Signing in

async function signIn(code) {
  const reply = await post("/api/signin", { code });
  if (!reply.ok) at("signinError").textContent = (await reply.json()).error.message;
  return reply.ok;
}

async function begin() {
  speak();
  const code = /^#code=([\w-]+)$/.exec(location.hash)?.[1];
  if (code) {
    history.replaceState(null, "", "/");
    await signIn(code);
  }
  const reply = await fetch("/api/me");
  at("signin").hidden = reply.ok;
  at("app").hidden = !reply.ok;
  if (!reply.ok) return at("key").focus();
  const { models } = await reply.json();
  at("model").replaceChildren(...models.map((name) => new Option(name, name)));
  show(state.talks[0] ?? null);
}

// Words and looks

function speak() {
  document.documentElement.lang = at("language").value = state.language;
  for (const one of document.querySelectorAll("[data-say]")) one.textContent = say(one.dataset.say);
  for (const one of document.querySelectorAll("[data-label]")) one.setAttribute("aria-label", say(one.dataset.label));
  for (const one of document.querySelectorAll("[data-hint]")) one.placeholder = say(one.dataset.hint);
}

function made(tag, className, text, onclick) {
  const one = document.createElement(tag);
  if (className) one.className = className;
  if (text) one.textContent = text;
  if (onclick) one.addEventListener("click", onclick);
  if (tag === "button") one.type = "button";
  return one;
}

// Conversations

function fresh() {
  const model = at("model").value;
  return { id: crypto.randomUUID?.() ?? String(Date.now()), title: "", model, system: at("system").value, temperature: 0.7, turns: [] };
}

function show(talk) {
  state.leaving?.abort();
  state.open = talk ?? { ...fresh(), system: "" };
  const { model, system, temperature, turns } = state.open;
  if ([...at("model").options].some((option) => option.value === model)) at("model").value = model;
  at("system").value = system;
  at("temperature").value = at("warmth").value = temperature;
  at("talk").replaceChildren(...(turns.length ? turns.map(drawn) : [made("p", "greeting", say("greeting"))]));
  at("talk").scrollTop = at("talk").scrollHeight;
  at("app").classList.remove("side");
  tell("");
  drawList();
  at("ask").focus();
}

function drawList() {
  at("list").replaceChildren(...state.talks.map((talk) => {
    const item = made("li");
    item.setAttribute("aria-current", String(talk === state.open));
    const remove = made("button", "quiet", "×", () => {
      state.talks = state.talks.filter((one) => one !== talk);
      save();
      show(talk === state.open ? state.talks[0] ?? null : state.open);
    });
    remove.setAttribute("aria-label", `${say("remove")}: ${talk.title}`);
    item.append(made("button", "quiet open", talk.title || say("untitled"), () => show(talk)), remove);
    return item;
  }));
}

function drawn(turn) {
  const article = made("article", `turn ${turn.role}`);
  const words = made("div", "words");
  if (turn.role === "user") words.textContent = turn.content;
  else render(turn.content, words);
  article.append(words);
  if (turn.role === "assistant") article.append(about(turn));
  return article;
}

function about(turn) {
  const line = made("div", "about");
  const facts = [turn.model];
  if (turn.confidence !== undefined) facts.push(`${Math.round(turn.confidence * 100)} % ${say("sure")}`);
  if (turn.tokens) facts.push(`${turn.tokens} ${say("tokens")}`);
  if (turn.rate) facts.push(`${turn.rate.toFixed(1)} ${say("rate")}`);
  if (turn.stopped) facts.push(say("stopped"));
  line.append(made("span", "", facts.filter(Boolean).join(" · ")));
  line.append(made("button", "quiet", say("copy"), () => navigator.clipboard?.writeText(turn.content)));
  if (turn === state.open.turns.at(-1)) line.append(made("button", "quiet", say("again"), again));
  return line;
}

// Asking

async function ask(text) {
  const talk = state.open;
  if (!state.talks.includes(talk)) state.talks.unshift(talk);
  talk.title ||= text.slice(0, 60);
  talk.turns.push({ role: "user", content: text });
  await answer(talk);
}

async function again() {
  if (state.leaving) return;
  state.open.turns.pop();
  await answer(state.open);
}

async function answer(talk) {
  Object.assign(talk, { model: at("model").value, system: at("system").value, temperature: Number(at("temperature").value) });
  const turn = { role: "assistant", content: "", model: talk.model };
  const before = talk.system ? [{ role: "system", content: talk.system }] : [];
  const messages = [...before, ...talk.turns.map(({ role, content }) => ({ role, content }))];
  at("talk").replaceChildren(...talk.turns.map(drawn));
  const article = at("talk").appendChild(drawn(turn));
  article.classList.add("busy");
  article.lastChild.remove();
  const leaving = (state.leaving = new AbortController());
  busy(true);
  drawList();
  try {
    await stream({ model: talk.model, messages, temperature: talk.temperature, max_tokens: 1024, stream: true, stream_options: { include_usage: true } }, turn, article, leaving.signal);
  } catch (error) {
    if (leaving.signal.aborted) turn.stopped = true;
    else tell(error instanceof TypeError ? say("lost") : error.message);
  }
  state.leaving = null;
  busy(false);
  if (turn.content) talk.turns.push(turn);
  save();
  if (talk === state.open) {
    at("talk").replaceChildren(...talk.turns.map(drawn));
    at("talk").scrollTop = at("talk").scrollHeight;
    at("ask").focus();
  }
}

async function stream(request, turn, article, signal) {
  const reply = await post("/v1/chat/completions", request, signal);
  if (reply.status === 401) return location.reload();
  if (!reply.ok) throw new Error((await reply.json()).error.message);
  tell("");
  let first = 0;
  let due = false;
  const draw = () => {
    due = false;
    const low = at("talk").scrollHeight - at("talk").scrollTop - at("talk").clientHeight < 80;
    render(turn.content, article.firstChild);
    if (low) at("talk").scrollTop = at("talk").scrollHeight;
  };
  for await (const event of events(reply.body)) {
    if (event.error) throw new Error(event.error.message);
    const choice = event.choices[0];
    if (choice?.confidence !== undefined) turn.confidence = choice.confidence;
    if (choice?.finish_reason === "length") tell(say("cut"));
    if (choice?.delta.content) {
      first ||= performance.now();
      turn.content += choice.delta.content;
      if (!due) requestAnimationFrame(draw);
      due = true;
    }
    if (event.usage) {
      turn.tokens = event.usage.completion_tokens;
      const seconds = (performance.now() - first) / 1000;
      if (first && turn.tokens > 1 && seconds > 0.05) turn.rate = (turn.tokens - 1) / seconds;
    }
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (held + value).split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

function busy(is) {
  at("send").hidden = is;
  at("stop").hidden = !is;
}

// Hands

at("signin").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (await signIn(at("key").value.trim())) location.reload();
});
at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("ask").value.trim();
  if (!text || state.leaving) return;
  at("ask").value = "";
  ask(text);
});
at("ask").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("composer").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") state.leaving?.abort();
  if (event.key.toLowerCase() === "o" && event.shiftKey && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    show(null);
  }
});
at("stop").addEventListener("click", () => state.leaving?.abort());
at("fresh").addEventListener("click", () => show(null));
at("openSide").addEventListener("click", () => at("app").classList.add("side"));
at("closeSide").addEventListener("click", () => at("app").classList.remove("side"));
at("temperature").addEventListener("input", () => (at("warmth").value = at("temperature").value));
at("language").addEventListener("change", () => {
  localStorage.setItem("empu.language", (state.language = at("language").value));
  speak();
  show(state.talks.includes(state.open) ? state.open : null);
});
at("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark" || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  localStorage.setItem("empu.theme", (document.documentElement.dataset.theme = dark ? "light" : "dark"));
});
at("signout").addEventListener("click", async () => {
  await fetch("/api/signout", { method: "POST" });
  location.reload();
});
const theme = localStorage.getItem("empu.theme");
if (theme) document.documentElement.dataset.theme = theme;
begin();
