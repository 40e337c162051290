// Markdown as a tree of plain nodes: a string, or {tag, attributes, children}. Nothing here makes HTML: every tag is
// one of ours, every text becomes a text node, and no node can load anything. A link is followed only when it is clicked.

const LINK = /^(https?:\/\/|mailto:)[^\s<>"'`\\]+$/i;
const INLINE = /(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)|!?\[([^\][\n]{0,500})\]\(([^()\s]{1,2000})\)|\*\*(?=\S)([^\n]{1,2000}?\S)\*\*|(?<![\w*])\*(?=[^\s*])([^*\n]{0,2000}?[^\s*])\*(?![\w*])|~~(?=\S)([^~\n]{1,2000})~~/;
const DEEPEST = 6;

const node = (tag, children, attributes = {}) => ({ tag, attributes, children });

export function inline(text, depth = 0) {
  const out = [];
  let rest = text;
  while (rest && depth < DEEPEST) {
    const found = INLINE.exec(rest);
    if (!found) break;
    if (found.index) out.push(rest.slice(0, found.index));
    const [whole, , code, label, target, strong, slanted, struck] = found;
    if (code !== undefined) out.push(node("code", [code.trim() || code]));
    else if (target !== undefined) out.push(link(whole, label, target, depth));
    else if (strong !== undefined) out.push(node("strong", inline(strong, depth + 1)));
    else if (slanted !== undefined) out.push(node("em", inline(slanted, depth + 1)));
    else out.push(node("del", inline(struck, depth + 1)));
    rest = rest.slice(found.index + whole.length);
  }
  if (rest) out.push(rest);
  return out;
}

function link(whole, label, target, depth) {
  if (whole.startsWith("!") || !LINK.test(target)) return whole; // a picture would be fetched from elsewhere
  const attributes = { href: target, rel: "noopener noreferrer nofollow", target: "_blank", title: target };
  return node("a", label ? inline(label, depth + 1) : [target], attributes);
}

export function parse(text) {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  const out = [];
  let at = 0;
  const take = (fits) => {
    const from = at;
    while (at < lines.length && fits(lines[at])) at += 1;
    return lines.slice(from, at);
  };
  while (at < lines.length) {
    const line = lines[at];
    const fence = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]{0,30})[^`]*$/.exec(line);
    const heading = /^(#{1,6})\s+(.+?)\s*#*$/.exec(line);
    if (fence) {
      at += 1;
      const body = take((one) => !one.trim().startsWith(fence[1]));
      at += 1;
      out.push(node("pre", [node("code", [body.join("\n")])], fence[2] ? { "data-language": fence[2] } : {}));
    } else if (heading) {
      at += 1;
      out.push(node(`h${Math.min(6, heading[1].length + 2)}`, inline(heading[2])));
    } else if (/^ {0,3}([-*_])( *\1){2,} *$/.test(line)) {
      at += 1;
      out.push(node("hr", []));
    } else if (/^ {0,3}>/.test(line)) {
      const body = take((one) => /^ {0,3}>/.test(one)).map((one) => one.replace(/^ {0,3}> ?/, ""));
      out.push(node("blockquote", paragraphs(body)));
    } else if (/^\s*([-*+]|\d{1,9}[.)])\s+/.test(line)) {
      out.push(list(take((one) => /^\s*([-*+]|\d{1,9}[.)])\s+/.test(one) || /^\s{2,}\S/.test(one))));
    } else if (line.includes("|") && /^\s*\|?[\s:|-]*-[\s:|-]*\|[\s:|-]*$/.test(lines[at + 1] ?? "")) {
      out.push(table(take((one) => one.includes("|"))));
    } else if (line.trim()) {
      const begin = at;
      out.push(...paragraphs(take((one) => one.trim() && (at === begin || !/^( {0,3}(```|~~~|>)|#{1,6}\s|\s*[-*+]\s)/.test(one)))));
    } else at += 1;
  }
  return out;
}

function paragraphs(lines) {
  const joined = lines.join("\n").trim();
  return joined ? joined.split(/\n{2,}/).map((part) => node("p", broken(part))) : [];
}

function broken(part) {
  return part.split("\n").flatMap((line, i) => (i ? [node("br", []), ...inline(line)] : inline(line)));
}

function list(lines) {
  const items = [];
  for (const line of lines) {
    const found = /^\s*(?:[-*+]|\d{1,9}[.)])\s+(.*)$/.exec(line);
    if (found) items.push([found[1]]);
    else if (items.length) items.at(-1).push(line.trim());
  }
  const number = /^\s*(\d{1,9})[.)]/.exec(lines[0]);
  return node(number ? "ol" : "ul", items.map((item) => node("li", broken(item.join("\n")))), number ? { start: number[1] } : {});
}

function table(lines) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const row = (line, tag) => node("tr", cells(line).map((cell) => node(tag, inline(cell))));
  const body = lines.slice(2).map((line) => row(line, "td"));
  return node("table", [node("thead", [row(lines[0], "th")]), node("tbody", body)]);
}

export function render(text, into) {
  into.replaceChildren(...parse(text).map(build));
}

function build(one) {
  if (typeof one === "string") return document.createTextNode(one);
  const made = document.createElement(one.tag);
  for (const [name, value] of Object.entries(one.attributes)) made.setAttribute(name, value);
  made.append(...one.children.map(build));
  return made;
}
