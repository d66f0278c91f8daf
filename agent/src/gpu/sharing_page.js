// SPDX-License-Identifier: Apache-2.0
//
// Lines on two logarithmic axes, and stacked bars. Needs util/page.js.
const size = (bytes) => {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let power = 0;
  while (bytes >= 1024 && power < units.length - 1) { bytes /= 1024; power++; }
  return `${grouped(bytes, bytes % 1 !== 0 && bytes < 99.5 ? 1 : 0)} ${units[power]}`;
};
const duration = (ns) => {
  const units = ['ns', 'µs', 'ms', 's'];
  let power = 0;
  while (ns >= 999.5 && power < units.length - 1) { ns /= 1000; power++; }
  return `${grouped(ns, power === 0 || ns >= 99.95 ? 0 : ns >= 9.995 ? 1 : 2)} ${units[power]}`;
};
const rate = (value) => `${grouped(value, value < 9.95 ? 2 : 0)} GB/s`;
const colourOf = (index) => `var(--s${index % 9})`;

function decades(values) {
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))));
  return Array.from({length: high - low + 1}, (_, i) => 10 ** (low + i));
}

function drawLines(chart, width) {
  const height = Math.max(280, Math.min(440, width * 0.45));
  const label = width < 560 ? 0 : 92;
  const [left, right, top, bottom] = [66, width - 10 - label, 12, height - 30];
  const text = chart.unit === 'ns' ? duration : rate;
  const marks = decades(chart.series.flatMap((one) => one.points.map(([, value]) => value)));
  const sizes = [...new Set(chart.series.flatMap((one) => one.points.map(([at]) => at)))]
      .sort((a, b) => a - b);
  const [first, last] = [Math.log(sizes[0]), Math.log(Math.max(sizes.at(-1), sizes[0] * 2))];
  const x = (at) => +(left + (Math.log(at) - first) / (last - first) * (right - left)).toFixed(1);
  const [low, high] = [Math.log(marks[0]), Math.log(marks.at(-1))];
  const y = (value) =>
      +(bottom - (Math.log(value) - low) / (high - low) * (bottom - top)).toFixed(1);
  const svg = shape('svg', {viewBox: `0 0 ${width} ${height}`, role: 'img',
      'aria-label': `${chart.title}: ${chart.series.map((one) => one.name).join(', ')}`});
  for (const mark of marks) {
    svg.append(shape('line', {class: 'grid', x1: left, x2: right, y1: y(mark), y2: y(mark)}),
               shape('text', {class: 'tick', x: left - 8, y: y(mark) + 4, 'text-anchor': 'end'},
                     text(mark).replace(/\.0+ /, ' ')));
  }
  const every = Math.ceil(sizes.length / Math.max(2, Math.floor((right - left) / 64)));
  sizes.forEach((at, index) => {
    if ((sizes.length - 1 - index) % every !== 0) return;
    svg.append(shape('text', {class: 'tick', x: x(at), y: height - 10, 'text-anchor': 'middle'},
                     size(at)));
  });
  const ends = [];
  chart.series.forEach((one, index) => {
    const path = one.points.map(([at, value], i) => `${i ? 'L' : 'M'}${x(at)} ${y(value)}`).join('');
    svg.append(shape('path', {class: `series${one.handed ? ' handed' : ''}`, d: path,
                              style: `stroke:${colourOf(index)}`}));
    for (const [at, value, tail] of one.points) {
      const point = shape('circle', {cx: x(at), cy: y(value), r: 3.5,
                                     style: `fill:${colourOf(index)}`});
      point.append(shape('title', {}, `${one.name}, ${size(at)}: ${text(value)}` +
          (tail === undefined ? '' : `, p99 ${text(tail)}`)));
      svg.append(point);
    }
    ends.push([y(one.points.at(-1)[1]), one.name, index]);
  });
  if (label === 0) return svg;
  // Names where the lines end, moved apart where they would lie on each other.
  ends.sort((a, b) => a[0] - b[0]);
  ends.forEach((end, i) => { if (i) end[0] = Math.max(end[0], ends[i - 1][0] + 15); });
  const over = Math.max(0, (ends.at(-1)?.[0] ?? 0) - (height - 8));
  ends.forEach(([at, name, index]) => svg.append(shape('text', {class: 'small', x: right + 10,
      y: at - over + 4, style: `fill:${colourOf(index)}`}, name)));
  return svg;
}

function drawStacked(chart, width) {
  const row = 54;
  const totals = chart.bars.map((bar) => bar.values.reduce((sum, one) => sum + one, 0));
  const most = Math.max(1, ...totals);
  const space = width - 110;
  const svg = shape('svg', {viewBox: `0 0 ${width} ${chart.bars.length * row}`, role: 'img',
      'aria-label': chart.bars.map((bar, i) => `${bar.name}: ${size(totals[i])}`).join(', ')});
  chart.bars.forEach((bar, index) => {
    const top = index * row;
    let from = 0;
    svg.append(shape('text', {class: 'strong', x: 0, y: top + 14}, bar.name),
               shape('text', {class: 'small soft', x: width, y: top + 14, 'text-anchor': 'end'},
                     bar.text));
    bar.values.forEach((value, part) => {
      const length = value / most * space;
      const box = shape('rect', {x: from, y: top + 21, width: Math.max(0, length), height: 22,
                                 style: `fill:${colourOf(part === 0 ? 4 : part === 1 ? 3 : 5)}`});
      box.append(shape('title', {}, `${chart.parts[part]}: ${size(value)}`));
      svg.append(box);
      from += length;
    });
    svg.append(shape('text', {class: 'strong', x: from + 8, y: top + 37}, size(totals[index])));
  });
  return svg;
}

function legend(names, colours, handed) {
  return el('ul', 'legend', ...names.map((name, index) => {
    const key = el('i', '');
    key.style.background = colourOf(colours(index));
    return el('li', '', key, handed?.[index] ? `${name} (hands over)` : name);
  }));
}

for (const chart of page.charts) {
  const lines = chart.kind === 'loglog';
  document.getElementById('charts').append(el('figure', '',
      el('figcaption', '', el('h3', '', chart.title), el('span', 'muted', chart.caption)),
      holder((width) => (lines ? drawLines : drawStacked)(chart, width)),
      lines ? legend(chart.series.map((one) => one.name), (index) => index,
                     chart.series.map((one) => one.handed))
            : legend(chart.parts, (part) => (part === 0 ? 4 : part === 1 ? 3 : 5)),
      chart.note ? el('p', 'note', chart.note) : null));
}
showCharts();
