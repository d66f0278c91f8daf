// SPDX-License-Identifier: Apache-2.0
//
// What the pages of `cost`, `trace` and `gpu` share: elements, round steps of axes, charts that
// follow the width, tiles and facts. The script of a page adds its charts and calls showCharts().
// All text goes through textContent: names can never become markup.
'use strict';
const page = JSON.parse(document.getElementById('page').textContent);

const NICE = [1, 2, 2.5, 5, 10];
const grouped = (value, digits = 0) => value.toLocaleString('en-US',
    {minimumFractionDigits: digits, maximumFractionDigits: digits});
const time = (ms) => (Math.abs(ms) >= 10000 ? `${grouped(ms / 1000, 1)} s`
                      : `${grouped(ms, Math.abs(ms) < 9.95 ? 2 : Math.abs(ms) < 99.5 ? 1 : 0)} ms`);

function el(tag, classes, ...content) {
  const node = document.createElement(tag);
  if (classes) node.className = classes;
  node.append(...content.filter((part) => part !== null));
  return node;
}
function shape(tag, attributes, text) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}
/** Round steps from 0 to at least `high`. */
function ticks(high, count) {
  const rough = high / count;
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = NICE.map((factor) => factor * decade).find((one) => one >= rough * 0.999);
  const all = [];
  for (let i = 0; i * step < high + step * 0.999; i++) all.push(i * step);
  return all;
}
const redraws = [];
/** Draws at the real width, and again when it changes. */
function holder(draw) {
  const node = el('div', 'chart');
  let width = 0;
  const redraw = () => {
    if (Math.floor(node.clientWidth) === width || node.clientWidth < 1) return;
    width = Math.floor(node.clientWidth);
    node.replaceChildren(draw(width));
  };
  new ResizeObserver(() => requestAnimationFrame(redraw)).observe(node);
  redraws.push(redraw);
  return node;
}
/** To be called when every chart is on the page. */
function showCharts() {
  for (const redraw of redraws) redraw();
}

document.getElementById('tiles').append(...page.tiles.map(([number, text]) =>
    el('div', 'tile', el('b', '', number), el('span', '', text))));
document.getElementById('facts').append(el('section', '', el('h3', '', 'About this measurement'),
    el('table', '', el('tbody', '', ...page.facts.map(([name, value]) =>
        el('tr', '', el('th', '', name), el('td', '', value)))))));
addEventListener('beforeprint', () => {
  for (const one of document.querySelectorAll('details')) one.open = true;
});
