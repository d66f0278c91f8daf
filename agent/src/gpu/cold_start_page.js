// SPDX-License-Identifier: Apache-2.0
//
// Phases of a start: a bar a variant, and each phase's share on its own scale. Needs util/page.js.
const names = [...new Set(page.bars.flatMap((bar) => bar.phases.map((one) => one.name)))];
// Few phases matter: those get a colour, the others are grey.
const largest = names
    .map((name) => [Math.max(...page.bars.map((bar) =>
        bar.phases.find((one) => one.name === name)?.ms ?? 0)), name])
    .sort((a, b) => b[0] - a[0]).slice(0, 8).map(([, name]) => name);
const coloured = names.filter((name) => largest.includes(name));
const colourOf = (name) => (coloured.includes(name) ? `var(--s${coloured.indexOf(name)})`
                            : 'var(--bar-soft)');

function drawBars(width) {
  const row = 56;
  const space = width - 90;
  const most = Math.max(...page.bars.flatMap((bar) => [bar.total, ...bar.samples]));
  const x = (ms) => +(ms / most * space).toFixed(1);
  const svg = shape('svg', {viewBox: `0 0 ${width} ${page.bars.length * row}`, role: 'img',
      'aria-label': page.bars.map((bar) => `${bar.name}: ${time(bar.total)}`).join(', ')});
  page.bars.forEach((bar, index) => {
    const top = index * row;
    svg.append(shape('text', {class: 'strong', x: 0, y: top + 13}, bar.name));
    let from = 0;
    for (const one of bar.phases) {
      const box = shape('rect', {x: x(from), y: top + 19, height: 20,
                                 width: Math.max(0, x(one.ms)), style: `fill:${colourOf(one.name)}`});
      box.append(shape('title', {}, `${one.name}: ${time(one.ms)} (${time(one.low)} to ${
          time(one.high)})`));
      svg.append(box);
      from += one.ms;
    }
    for (const ms of bar.samples) {
      svg.append(shape('circle', {class: 'dot', cx: x(ms), cy: top + 45, r: 2.5}));
    }
    svg.append(shape('text', {class: 'strong', x: x(Math.max(from, bar.total)) + 8, y: top + 34},
                     time(bar.total)));
  });
  return svg;
}

function drawPhases(width) {
  const row = 24;
  const label = Math.min(190, width * 0.4);
  const base = page.bars[0];
  const most = Math.max(...base.phases.map((one) => one.high));
  const x = (ms) => +(label + ms / most * (width - label - 80)).toFixed(1);
  const svg = shape('svg', {viewBox: `0 0 ${width} ${base.phases.length * row}`, role: 'img',
      'aria-label': base.phases.map((one) => `${one.name} ${time(one.ms)}`).join(', ')});
  base.phases.forEach((one, index) => {
    const middle = index * row + row / 2;
    svg.append(shape('text', {x: 0, y: middle + 4}, one.name),
               shape('rect', {x: label, y: middle - 7, height: 14, rx: 2,
                              width: Math.max(1, x(one.ms) - label),
                              style: `fill:${colourOf(one.name)}`}),
               shape('path', {class: 'whisker', d: `M${x(one.low)} ${middle}H${x(one.high)}`}),
               shape('text', {class: 'small soft', x: x(one.high) + 8, y: middle + 4},
                     time(one.ms)));
  });
  return svg;
}

const legend = el('ul', 'legend', ...[...coloured, null].map((name) => {
  const key = el('i', '');
  key.style.background = colourOf(name);
  return el('li', '', key, name ?? 'all others');
}));
document.getElementById('charts').append(
    el('figure', '', el('figcaption', '', el('h3', '', 'From before clone to the answer'),
                        el('span', 'muted', 'medians of the phases; the dots are single starts')),
       holder(drawBars), legend,
       el('p', 'note', 'The number is the median of the whole; medians of phases need not add up ' +
          'to it. Differences to the base are in the name.')),
    el('figure', '', el('figcaption', '', el('h3', '', `Phases of ${page.bars[0].variant}`),
                        el('span', 'muted', 'median; the line spans the least and the largest')),
       holder(drawPhases)));
showCharts();
