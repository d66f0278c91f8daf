// SPDX-License-Identifier: Apache-2.0
//
// The JSON document embedded in the page, numbers as people read them, and the elements that the
// page is made of. All text goes through textContent: names in a report can never become markup.
// Any field may be missing; what is missing is left out.
'use strict';
const report = JSON.parse(document.getElementById('report').textContent) ?? {};
const ORDER = ['cold', 'copy', 'lazy', 'mapped', 'attached', 'warm'];
const BASELINE = 'copy';
const MEANING = {
  cold: 'the program starts from scratch',
  copy: 'plain CRIU: every page is read from the checkpoint and copied',
  lazy: 'CRIU lazy-pages: pages are fetched at first touch through userfaultfd',
  mapped: 'memplate: template pages are mapped copy-on-write from the pool',
  attached: 'memplate: template pages are attached copy-on-write by the kernel module',
  warm: 'the instance was already running',
};
const METRICS = [
  ['first_answer_ms', 'first answer', 'Time to first answer'],
  ['ready_ms', 'ready', 'Time until ready'],
  ['touch_ms', 'touch everything', 'A request that touches all memory'],
];
const STATES = [
  ['idle', 'Idle after the start'],
  ['after_request', 'After one request each'],
  ['after_touch', 'After touching everything'],
];

// ---- numbers ---------------------------------------------------------------------------------
const num = (value) => (typeof value === 'number' && Number.isFinite(value) ? value : null);
const grouped = (value, digits = 0) => value.toLocaleString('en-US',
    {minimumFractionDigits: digits, maximumFractionDigits: digits});
function amount(value) {
  const size = Math.abs(value);
  return grouped(value, size < 0.995 ? 2 : size < 99.95 ? 1 : 0);
}
const milliseconds = (ms) => (Math.abs(ms) >= 10000 ? `${grouped(ms / 1000, 1)} s`
                                                    : `${amount(ms)} ms`);
const megabytes = (mb) => `${grouped(mb, Math.abs(mb) < 9.95 ? 1 : 0)} MB`;
/** "17.3× faster than copy"; null without a baseline. */
function speed(base, value, suffix = ` than ${BASELINE}`) {
  if (!(base > 0) || !(value > 0)) return null;
  const ratio = base > value ? base / value : value / base;
  const text = grouped(ratio, ratio < 99.95 ? 1 : 0);
  if (text === '1.0') return `as fast as ${BASELINE}`;
  return `${text}× ${base > value ? 'faster' : 'slower'}${suffix}`;
}
function share(base, value) {
  if (!(base > 0) || value === null) return null;
  const percent = value / base * 100;
  return `${grouped(percent, percent < 9.95 ? 1 : 0)} %`;
}

// ---- the report ------------------------------------------------------------------------------
const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);
const object = (value) => (isObject(value) ? value : {});
const list = (value) => (Array.isArray(value) ? value : []);
const isOurs = (method) => method === 'mapped' || method === 'attached';
const environment = object(report.environment);
const functions = list(report.functions).filter(isObject);

function methodNames(fn) {
  const names = Object.keys(object(fn.methods)).filter((name) => isObject(fn.methods[name]));
  const place = (name) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  return names.sort((a, b) => place(a) - place(b));
}
const method = (fn, name) => object(object(fn.methods)[name]);
const metric = (fn, name, key) => object(method(fn, name)[key]);
const p50 = (fn, name, key) => num(metric(fn, name, key).p50);
function memory(fn, name, state, kind) {
  const values = object(method(fn, name).memory10_mb);
  const value = num(values[`${state}_${kind}`]);
  return value === null && state === 'idle' && kind === 'private' ? num(values.private) : value;
}
const instances = (fn) => methodNames(fn)
    .map((name) => num(object(method(fn, name).memory10_mb).instances))
    .find((count) => count !== null) ?? 10;
/** Our method of this function: the fastest to the first answer among mapped and attached. */
function ourMethod(fn) {
  const time = (name) => p50(fn, name, 'first_answer_ms') ?? p50(fn, name, 'ready_ms') ?? Infinity;
  return methodNames(fn).filter(isOurs).sort((a, b) => time(a) - time(b))[0] ?? null;
}
/** The first of the time metrics that both methods (or our own alone) have. */
function headlineMetric(fn) {
  const ours = ourMethod(fn);
  const has = (key, names) => names.every((name) => p50(fn, name, key) !== null);
  const keys = METRICS.slice(0, 2);
  return keys.find(([key]) => has(key, [ours, BASELINE])) ?? keys.find(([key]) => has(key, [ours]));
}

// ---- elements --------------------------------------------------------------------------------
function el(tag, classes, ...content) {
  const node = document.createElement(tag);
  if (classes) node.className = classes;
  node.append(...content.filter((part) => part !== null && part !== undefined));
  return node;
}
function shape(tag, attributes, text) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}
let identifiers = 0;
function drawing(width, height, title, description) {
  const id = `chart${identifiers++}`;
  const svg = shape('svg', {viewBox: `0 0 ${width} ${height}`, role: 'img',
                            'aria-labelledby': `${id}t ${id}d`});
  svg.append(shape('title', {id: `${id}t`}, title), shape('desc', {id: `${id}d`}, description));
  return svg;
}
/** A row that shows `text` when pointed at; returns the group to draw in. */
function tooltipRow(svg, x, y, width, height, text) {
  const row = shape('g', {class: 'row'});
  row.append(shape('title', {}, text),
             shape('rect', {class: 'hover', x, y, width, height, rx: 5}));
  svg.append(row);
  return row;
}
const pen = document.createElement('canvas').getContext('2d');
function textWidth(text, bold = false, size = 13) {
  if (!pen) return text.length * size * 0.6;
  pen.font = `${bold ? 650 : 400} ${size}px ${getComputedStyle(document.body).fontFamily}`;
  return pen.measureText(text).width;
}
const widest = (texts, ...style) => Math.max(0, ...texts.map((text) => textWidth(text, ...style)));

const charts = [];  // what draws each of them, once it is on the page
/** Draws at the real width, again whenever it changes: text keeps its size on every screen. */
function chart(draw) {
  const holder = el('div', 'chart');
  let width = 0;
  const redraw = () => {
    width = Math.floor(holder.clientWidth);
    if (width > 0) holder.replaceChildren(draw(width));
  };
  const follow = () => { if (Math.floor(holder.clientWidth) !== width) redraw(); };
  new ResizeObserver(() => requestAnimationFrame(follow)).observe(holder);
  charts.push(redraw);
  return [holder, redraw];
}
/** Buttons of which one is pressed. */
function choice(label, options, chosen, onChange) {
  const group = el('div', 'switch');
  group.setAttribute('role', 'group');
  group.setAttribute('aria-label', label);
  for (const [value, text] of options) {
    const button = el('button', '', text);
    button.type = 'button';
    button.setAttribute('aria-pressed', String(value === chosen));
    button.addEventListener('click', () => {
      for (const other of group.children) other.setAttribute('aria-pressed', 'false');
      button.setAttribute('aria-pressed', 'true');
      onChange(value);
    });
    group.append(button);
  }
  return group;
}
function figure(title, unit, switches, ...content) {
  const controls = switches.filter((one) => one !== null);
  return el('figure', '', el('figcaption', '', el('h3', '', title), el('span', 'muted', unit),
                             controls.length ? el('div', 'switches', ...controls) : null),
            ...content);
}
const legend = (entries) => el('ul', 'legend', ...entries.map(([colour, text]) => {
  const key = el('i');
  key.style.background = colour;
  return el('li', '', key, text);
}));
function table(caption, columns, rows) {
  const scroll = el('div', 'scroll');
  scroll.append(el('table', '', caption ? el('caption', '', caption) : null,
      el('thead', '', el('tr', '', ...columns.map((text) => el('th', '', text)))),
      el('tbody', '', ...rows.map(([name, ...cells]) => el('tr', '', el('th', '', name),
          ...cells.map((cell) => el('td', '', cell ?? '–')))))));
  return scroll;
}
function barColour(name, soft = false) {
  const hue = isOurs(name) ? 'accent' : name === BASELINE ? 'bar-base' : 'bar';
  return `var(--${hue}${soft ? '-soft' : ''})`;
}
