// SPDX-License-Identifier: Apache-2.0
//
// What a program's time was spent on: lanes over the time, then calls and gaps. Needs util/page.js.
const start = page.start;
const ORDER = ['start', 'link', 'import', 'disk', 'user code', 'initialise', 'context', 'modules',
               'memory', 'copies', 'launches', 'waiting', 'other calls', 'held by memplate'];
const OF_DRIVER = ORDER.slice(5, 13);
const lanes = ORDER.filter((name) => start.lanes[name]);
const colourOf = (name) => (OF_DRIVER.includes(name) ? `var(--s${OF_DRIVER.indexOf(name)})`
                            : name === 'held by memplate' ? 'var(--bad)'
                            : name === 'user code' ? 'var(--bar)' : 'var(--bar-base)');
const spent = (name) => (OF_DRIVER.includes(name) ? start.driver[name] : start.activities[name]);

function drawLanes(width) {
  const row = 26;
  const label = Math.min(130, width * 0.3);
  const right = width - 74;
  const height = lanes.length * row;
  const unit = start.total_ms >= 5000 ? ['s', 1000] : ['ms', 1];
  const x = (ms) => +(label + ms / start.total_ms * (right - label)).toFixed(2);
  const svg = shape('svg', {viewBox: `0 0 ${width} ${height + 24}`, role: 'img',
      'aria-label': lanes.map((name) => `${name} ${time(spent(name))}`).join(', ')});
  const marks = ticks(start.total_ms / unit[1], Math.max(3, Math.floor(width / 130)))
      .filter((tick) => tick * unit[1] <= start.total_ms);
  for (const tick of marks) {
    const at = x(tick * unit[1]);
    svg.append(shape('line', {class: 'grid', x1: at, x2: at, y1: 0, y2: height}),
               shape('text', {class: 'tick', x: at, y: height + 18, 'text-anchor': 'middle'},
                     grouped(tick, marks.some((one) => one % 1 !== 0) ? 1 : 0) +
                         (tick === marks.at(-1) ? ` ${unit[0]}` : '')));
  }
  lanes.forEach((name, index) => {
    const top = index * row + 4;
    svg.append(shape('text', {x: 0, y: top + 14}, name));
    for (const [begin, end] of start.lanes[name]) {
      const box = shape('rect', {x: x(begin), y: top, height: row - 8,
                                 width: Math.max(1, x(end) - x(begin)),
                                 style: `fill:${colourOf(name)}`});
      box.append(shape('title', {}, `${name}: ${time(end - begin)} at ${time(begin)}`));
      svg.append(box);
    }
    svg.append(shape('text', {class: 'small soft', x: width, y: top + 14, 'text-anchor': 'end'},
                     time(spent(name))));
  });
  return svg;
}

function table(head, rows) {
  return el('div', 'scroll', el('table', '',
      el('thead', '', el('tr', '', ...head.map((text) => el('th', '', text)))),
      el('tbody', '', ...rows.map((cells) => el('tr', '', ...cells.map((cell, index) =>
          el(index === 0 ? 'th' : 'td', '', cell)))))));
}
const size = (bytes) => (bytes === 0 ? '–' : bytes >= 1e9 ? `${grouped(bytes / 1e9, 2)} GB`
                         : bytes >= 1e6 ? `${grouped(bytes / 1e6, 1)} MB`
                         : `${grouped(bytes / 1e3, 1)} kB`);
const calls = table(['call', 'count', 'total', 'first', 'longest', 'bytes', 'failed'],
    start.calls.slice(0, 40).map((call) => [call.name, grouped(call.count), time(call.total_ms),
        time(call.first_ms), time(call.longest_ms), size(call.bytes),
        call.unfinished ? 'did not return' : call.failed ? grouped(call.failed) : '–']));
const gaps = table(['at', 'took', 'after', 'before', 'import', 'disk', 'user code', 'files', 'read',
                    'most from'],
    [...start.gaps].sort((a, b) => b.ms - a.ms).slice(0, 20).sort((a, b) => a.at_ms - b.at_ms)
        .map((gap) => [time(gap.at_ms), time(gap.ms), gap.after || 'the beginning',
            gap.before || 'the end', time(gap.parts.import), time(gap.parts.disk),
            time(gap.parts['user code']), grouped(gap.files), size(gap.bytes_read),
            gap.largest.split('/').at(-1) || '–']));

document.getElementById('charts').append(
    el('figure', '', el('figcaption', '', el('h3', '', 'What the time was spent on'),
                        el('span', 'muted', 'coloured: calls of the driver')),
       holder(drawLanes),
       el('p', 'note', 'A moment counts once: as a call of the driver if any thread is in one, ' +
          'else as disk, start, link or import, else as the program’s own code.')),
    el('figure', '', el('figcaption', '', el('h3', '', 'Calls of the driver')), calls),
    el('figure', '', el('figcaption', '', el('h3', '', 'Between the calls'),
                        el('span', 'muted', 'the longest, in order of time')), gaps));
showCharts();
