// SPDX-License-Identifier: Apache-2.0
//
// Memory over time: step lines for what was used, what may be used and what is paid, and bars for
// the phases of a start. Needs util/page.js.
'use strict';
const megabytes = (mb) => `${grouped(mb, mb < 9.95 ? 1 : 0)} MB`;

/** The level at a time: that of the last point not after it. */
function levelAt(points, at) {
  let [low, high] = [0, points.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] <= at) low = middle + 1; else high = middle;
  }
  return low === 0 ? null : points[low - 1][1];
}
function stepPath(points, x, y) {
  let path = '';
  points.forEach(([t, mb], i) => {
    path += i === 0 ? `M${x(t)} ${y(mb)}` : `H${x(t)}V${y(mb)}`;
  });
  return path;
}

function drawMemory(chart, width, readout) {
  const height = Math.max(260, Math.min(420, width * 0.42));
  const [left, right, top, bottom] = [58, width - 10, 12, height - 30];
  const all = chart.series.flatMap((one) => one.points);
  const yTicks = ticks(Math.max(1, ...all.map(([, mb]) => mb)) * 1.02, 6);
  const last = Math.max(1, ...all.map(([t]) => t));
  const first = Math.min(0, ...all.map(([t]) => t));
  const unit = last >= 5000 ? ['s', 1000] : ['ms', 1];
  const xTicks = ticks(last / unit[1], Math.max(3, Math.floor(width / 110)))
      .filter((tick) => tick * unit[1] <= last * 1.001);
  const x = (t) => +(left + (t - first) / (last - first) * (right - left)).toFixed(2);
  const y = (mb) => +(bottom - mb / yTicks.at(-1) * (bottom - top)).toFixed(2);
  const svg = shape('svg', {viewBox: `0 0 ${width} ${height}`, role: 'img',
                            'aria-label': `${chart.title}: ${chart.series.map((one) =>
                                one.name).join(', ')}`});
  const decimals = (values) => (values.some((one) => one % 1 !== 0) ? 1 : 0);
  for (const tick of yTicks) {
    const text = grouped(tick, decimals(yTicks)) + (tick === yTicks.at(-1) ? ' MB' : '');
    svg.append(shape('line', {class: 'grid', x1: left, x2: right, y1: y(tick), y2: y(tick)}),
               shape('text', {class: 'tick', x: left - 8, y: y(tick) + 4, 'text-anchor': 'end'},
                     text));
  }
  for (const tick of xTicks) {
    svg.append(shape('text', {class: 'tick', x: x(tick * unit[1]), y: height - 10,
                              'text-anchor': x(tick * unit[1]) > right - 30 ? 'end' : 'middle'},
                     grouped(tick, decimals(xTicks)) +
                         (tick === xTicks.at(-1) ? ` ${unit[0]}` : '')));
  }
  const levels = chart.series.filter((one) => one.kind === 'level');
  for (const one of chart.series) {
    if (one.points.length === 0) continue;
    const path = stepPath(one.points, x, y);
    if (one.kind === 'level' && levels.length === 1) {
      svg.append(shape('path', {class: 'area',
          d: `${path}V${y(0)}H${x(one.points[0][0])}Z`}));
    }
    svg.append(shape('path', {class: one.kind +
        (one.kind === 'level' && levels.length > 1 ? ' many' : ''), d: path}));
  }
  for (const mark of chart.marks) {
    const line = shape('line', {class: 'mark', x1: x(mark.t), x2: x(mark.t), y1: bottom,
                                y2: bottom - 10});
    line.append(shape('title', {}, mark.text));
    svg.append(line);
  }
  const cross = shape('line', {class: 'cross', y1: top, y2: bottom, visibility: 'hidden'});
  const pad = shape('rect', {x: left, y: top, width: right - left, height: bottom - top,
                             fill: 'transparent'});
  svg.append(cross, pad);
  pad.addEventListener('pointermove', (event) => {
    const box = svg.getBoundingClientRect();
    const at = first + ((event.clientX - box.left) * width / box.width - left) /
        (right - left) * (last - first);
    cross.setAttribute('x1', x(at));
    cross.setAttribute('x2', x(at));
    cross.setAttribute('visibility', 'visible');
    const shown = [];
    const used = levels.map((one) => levelAt(one.points, at)).filter((mb) => mb !== null);
    if (used.length) {
      shown.push(levels.length === 1 ? `${levels[0].name} ${megabytes(used[0])}`
          : `${used.length} traces, ${megabytes(Math.min(...used))} to ` +
            `${megabytes(Math.max(...used))}`);
    }
    for (const one of chart.series) {
      const mb = one.kind === 'level' ? null : levelAt(one.points, at);
      if (mb !== null) shown.push(`${one.name} ${megabytes(mb)}`);
    }
    readout.textContent = `${time(at)}: ${shown.join(' · ')}`;
  });
  pad.addEventListener('pointerleave', () => {
    cross.setAttribute('visibility', 'hidden');
    readout.textContent = '';
  });
  return svg;
}

function drawPhases(chart, width) {
  const total = chart.phases.reduce((sum, one) => sum + one.ms, 0) || 1;
  const label = Math.min(220, width * 0.35);
  const row = 28;
  const svg = shape('svg', {viewBox: `0 0 ${width} ${chart.phases.length * row + 4}`, role: 'img',
                            'aria-label': chart.phases.map((one) =>
                                `${one.name} ${time(one.ms)}`).join(', ')});
  let before = 0;
  chart.phases.forEach((one, index) => {
    const top = index * row + 4;
    const space = width - label - 90;
    const from = label + before / total * space;
    const length = Math.max(2, one.ms / total * space);
    svg.append(shape('text', {x: 0, y: top + 15}, one.name),
               shape('rect', {x: from, y: top, width: length, height: 20, rx: 3,
                              style: `fill:var(--p${index % 9})`}),
               shape('text', {class: 'strong', x: from + length + 8, y: top + 15}, time(one.ms)));
    before += one.ms;
  });
  return svg;
}

function legend(series) {
  const names = [];
  for (const one of series) {
    if (names.some(([, name]) => name === one.name)) continue;
    const many = one.kind === 'level' && series.filter((other) => other.kind === 'level').length > 1;
    if (many && names.some(([kind]) => kind === 'many')) continue;
    names.push(many ? ['many', 'memory used, each trace'] : [one.kind, one.name]);
  }
  const colour = {level: 'level', many: 'bar-base', hull: 'hull', limit: 'limit', billed: 'billed',
                  flat: 'faint'};
  return el('ul', 'legend', ...names.map(([kind, name]) => {
    const key = el('i', 'line');
    key.style.background = `var(--${colour[kind]})`;
    return el('li', '', key, name);
  }));
}

for (const chart of page.charts) {
  const readout = el('p', 'readout');
  const memory = holder((width) => drawMemory(chart, width, readout));
  document.getElementById('charts').append(el('figure', '',
      el('figcaption', '', el('h3', '', chart.title), el('span', 'muted', chart.unit)),
      memory, legend(chart.series), readout,
      chart.note ? el('p', 'note', chart.note) : null));
  if (chart.phases.length > 1) {
    document.getElementById('charts').append(el('figure', '',
        el('figcaption', '', el('h3', '', 'Phases')),
        holder((width) => drawPhases(chart, width))));
  }
}
showCharts();
