// SPDX-License-Identifier: Apache-2.0
//
// The three charts of a function, as SVG.
'use strict';

// ---- axes ------------------------------------------------------------------------------------
const decade = (value) => 10 ** Math.floor(Math.log10(value));
function linearAxis(high, count) {
  const rough = high / count;
  const step = [1, 2, 2.5, 5, 10].map((f) => f * decade(rough)).find((s) => s >= rough * 0.999);
  const ticks = [];
  for (let i = 0; i * step <= high * 1.0001; i++) ticks.push(i * step);
  return {low: 0, high, ticks, at: (value) => value / high};
}
function logAxis(lowest, highest, count) {
  const down = [5, 2, 1].map((f) => f * decade(lowest)).find((s) => s <= lowest);
  const up = [1, 2, 5, 10].map((f) => f * decade(highest)).find((s) => s >= highest * 0.999);
  let ticks = [];
  for (let d = decade(down); d <= up; d *= 10) ticks.push(d, 2 * d, 5 * d);
  ticks = ticks.filter((tick) => tick >= down * 0.999 && tick <= up * 1.001);
  if (ticks.length > count) ticks = ticks.filter((tick) => decade(tick * 1.001) >= tick * 0.999);
  const [from, to] = [Math.log(down), Math.log(up)];
  return {low: down, high: up, ticks,
          at: (value) => (Math.log(Math.max(value, down)) - from) / (to - from)};
}
function drawAxis(svg, axis, x, y, unit) {
  for (const tick of axis.ticks) {
    const digits = axis.ticks.some((t) => t % 1 !== 0) ? (axis.high < 1 ? 2 : 1) : 0;
    const suffix = tick === axis.ticks.at(-1) ? ` ${unit}` : '';
    svg.append(shape('line', {class: 'grid', x1: x(tick), x2: x(tick), y1: 4, y2: y}),
               shape('text', {class: 'tick', x: x(tick), y: y + 16, 'text-anchor': 'middle'},
                     grouped(tick, tick === 0 ? 0 : digits) + suffix));
  }
}

// ---- time ------------------------------------------------------------------------------------
/** The same point of the strip for the same sample on every draw. */
const jitter = (index) => ((index + 1) * 0.6180339887) % 1;
function timeRows(fn, key) {
  return methodNames(fn).filter((name) => p50(fn, name, key) !== null).map((name) => {
    const values = metric(fn, name, key);
    const samples = list(values.samples).filter((sample) => num(sample) !== null);
    const tail = num(values.p99);
    return {
      name, p50: values.p50, p99: tail, samples,
      low: Math.min(values.p50, num(values.min) ?? values.p50, ...samples.slice(0, 5000)),
      high: Math.max(values.p50, tail ?? 0, num(values.max) ?? 0, ...samples.slice(0, 5000)),
      main: milliseconds(values.p50), tail: tail === null ? '' : `p99 ${milliseconds(tail)}`,
      ratio: name === BASELINE ? 'baseline' : speed(p50(fn, BASELINE, key), values.p50) ?? '',
    };
  });
}
function drawTimes(fn, key, title, log, width) {
  const rows = timeRows(fn, key);
  const narrow = width < 620;
  const labelWidth = narrow ? 0 : widest(rows.map((row) => row.name), true) + 20;
  const mainWidth = widest(rows.map((row) => row.main), true, 15);
  const textColumn = narrow ? 0 : Math.max(mainWidth + 12 + widest(rows.map((row) => row.tail)),
                                           widest(rows.map((row) => row.ratio), true)) + 8;
  const [left, right] = [labelWidth + 2, width - (narrow ? 10 : textColumn + 30)];
  const rowHeight = narrow ? 64 : 50;
  const bottom = rows.length * rowHeight + 6;
  const high = Math.max(...rows.map((row) => row.high)) || 1;
  const low = Math.min(...rows.map((row) => (row.low > 0 ? row.low : row.p50))
      .filter((value) => value > 0));
  const count = Math.max(3, Math.floor((right - left) / 72));
  const axis = log ? logAxis(low, high, count) : linearAxis(high, count);
  const x = (value) => left + axis.at(value) * (right - left);
  const svg = drawing(width, bottom + 24, `${title} of ${fn.name ?? 'the function'} by method`,
      rows.map((row) => `${row.name}: ${row.main}, ${row.tail}, ${row.ratio}`).join('; '));
  drawAxis(svg, axis, x, bottom, 'ms');
  svg.append(shape('line', {class: 'axis', x1: left, x2: left, y1: 4, y2: bottom}));
  rows.forEach((row, index) => {
    const top = index * rowHeight + 4;
    const ours = isOurs(row.name);
    const group = tooltipRow(svg, 0, top, width, rowHeight - 4, [row.name, `p50 ${row.main}`,
        row.tail, `${row.samples.length} samples`, row.ratio].filter(Boolean).join(' · '));
    group.querySelector('rect').style.display = 'none';
    const barTop = top + (narrow ? 24 : 7);
    const middle = barTop + 8;
    const label = (attributes, text) => group.append(shape('text', attributes, text));
    const tone = ours ? ' accent' : '';
    if (narrow) {
      const tailWidth = textWidth(row.tail, false, 12);
      label({class: `halo strong${tone}`, x: 0, y: top + 16}, row.name);
      label({class: `halo small${ours ? ' strong accent' : ' soft'}`, y: top + 16,
             x: textWidth(row.name, true) + 10}, row.ratio.replace(` than ${BASELINE}`, ''));
      label({class: 'halo small soft', x: width, y: top + 16, 'text-anchor': 'end'}, row.tail);
      label({class: `halo strong${tone}`, x: width - tailWidth - (tailWidth ? 10 : 0), y: top + 16,
             'text-anchor': 'end'}, row.main);
    } else {
      const column = width - textColumn;
      label({class: `strong${tone}`, x: labelWidth - 14, y: middle + 5, 'text-anchor': 'end'},
            row.name);
      label({class: `strong${tone}`, x: column, y: top + 20, style: 'font-size:15px'}, row.main);
      label({class: 'soft', x: column + mainWidth + 12, y: top + 20}, row.tail);
      label({class: `small${ours ? ' strong accent' : ' soft'}`, x: column, y: top + 37},
            row.ratio);
    }
    // A bar's length means nothing on a logarithmic axis: there the median is a point on a stem.
    const colour = `fill:${barColour(row.name)}`;
    group.append(log
        ? shape('line', {x1: left, x2: x(row.p50), y1: middle, y2: middle, 'stroke-width': 2,
                         style: `stroke:${barColour(row.name, true)}`})
        : shape('rect', {x: left, y: barTop, width: Math.max(2, x(row.p50) - left), height: 16,
                         rx: 2, style: colour}));
    if (row.p99 !== null) {
      group.append(shape('path', {class: 'whisker',
          d: `M${x(row.p50)} ${middle}H${x(row.p99)}M${x(row.p99)} ${middle - 5}v10`}));
    }
    if (log) group.append(shape('circle', {cx: x(row.p50), cy: middle, r: 6, style: colour}));
    const every = Math.ceil(row.samples.length / 400);
    row.samples.forEach((sample, place) => {
      if (place % every !== 0) return;
      const classes = `dot${ours ? ' ours' : ''}${row.samples.length > 100 ? ' many' : ''}`;
      group.append(shape('circle', {class: classes, r: 2, cx: x(sample),
                                    cy: barTop + 22 + jitter(place) * 11}));
    });
  });
  return svg;
}
function timeFigure(fn) {
  const metrics = METRICS.filter(([key]) => timeRows(fn, key).length > 0);
  if (!metrics.length) return null;
  let [key, , title] = metrics[0];
  let log = false;
  const spread = () => {
    const medians = timeRows(fn, key).map((row) => row.p50).filter((value) => value > 0);
    return medians.length > 1 && Math.max(...medians) >= 10 * Math.min(...medians);
  };
  const [holder, redraw] = chart((width) => drawTimes(fn, key, title, log && spread(), width));
  const scale = choice('Scale', [[false, 'linear'], [true, 'log']], log,
                       (value) => { log = value; update(); });
  const update = () => {
    scale.style.visibility = spread() ? '' : 'hidden';
    const shown = log && spread() ? 'point' : 'bar';
    result.querySelector('h3').textContent = title;
    result.querySelector('.muted').textContent =
        `${shown}: median (p50) · whisker: p99 · a dot: one run`;
    redraw();
  };
  const result = figure(title, '', [
    metrics.length > 1 ? choice('Time', metrics.map(([k, text]) => [k, text]), key, (value) => {
      [key, , title] = metrics.find(([k]) => k === value);
      update();
    }) : null, scale,
  ], holder);
  update();
  const [ours, touch] = [ourMethod(fn), (name) => p50(fn, name, 'touch_ms')];
  if (ours && touch(ours) !== null && touch(BASELINE) !== null) {
    result.append(el('p', 'note', `A request that touches all memory takes ` +
        `${milliseconds(touch(ours))} with ${ours} and ${milliseconds(touch(BASELINE))} with ` +
        `${BASELINE} (${speed(touch(BASELINE), touch(ours), '')}).`));
  }
  return result;
}

// ---- memory ----------------------------------------------------------------------------------
function drawMemory(fn, groups, width) {
  const rows = groups.flatMap(([, , entries]) => entries);
  const narrow = width < 430;
  const labelWidth = widest(rows.map((row) => row.name), true) + 14;
  const columns = narrow ? ['main', 'own'] : ['main', 'own', 'part'];
  const widths = columns.map((column) => widest(rows.map((row) => row[column]), true));
  const textColumn = widths.reduce((sum, one) => sum + one + (one ? 14 : 0), 0);
  const [left, right] = [labelWidth, width - textColumn];
  const high = Math.max(...rows.map((row) => row.pss));
  const x = (value) => left + value / high * (right - left);
  const [rowHeight, groupGap] = [24, 34];
  const height = groups.reduce((sum, [, , entries]) =>
      sum + groupGap + entries.length * rowHeight, 0) + 2;
  const svg = drawing(width, height, `Memory of ${instances(fn)} instances of ` +
      `${fn.name ?? 'the function'} by method`, groups.map(([, title, entries]) =>
      `${title}: ${entries.map((row) => `${row.name} ${row.main} ${row.own}`).join(', ')}`)
      .join('; '));
  let y = 0;
  for (const [, title, entries] of groups) {
    svg.append(shape('text', {class: 'small soft', x: 0, y: y + 22}, title));
    y += groupGap;
    for (const row of entries) {
      const tone = isOurs(row.name) ? ' accent' : '';
      const group = tooltipRow(svg, 0, y, width, rowHeight,
          [row.name, row.main, row.own, row.part].filter(Boolean).join(' · '));
      group.append(
        shape('text', {class: `strong${tone}`, x: labelWidth - 10, y: y + 16,
                       'text-anchor': 'end'}, row.name),
        shape('rect', {x: left, y: y + 5, width: Math.max(1.5, x(row.pss) - left), height: 14,
                       rx: 2, style: `fill:${barColour(row.name, row.private !== null)}`}));
      if (row.private !== null) {
        group.append(shape('rect', {x: left, y: y + 5, height: 14, rx: 2,
            width: Math.max(0, x(Math.min(row.private, row.pss)) - left),
            style: `fill:${barColour(row.name)}`}));
      }
      let end = right;
      columns.forEach((column, index) => {
        end += widths[index] + (widths[index] ? 14 : 0);
        group.append(shape('text', {class: column === 'main' ? `strong${tone}` : 'small soft',
                                    x: end, y: y + 16, 'text-anchor': 'end'}, row[column]));
      });
      y += rowHeight;
    }
  }
  svg.append(shape('line', {class: 'axis', x1: left, x2: left, y1: groupGap, y2: height - 2}));
  return svg;
}
function memoryFigure(fn) {
  const groups = STATES.map(([state, title]) => [state, title, methodNames(fn)
      .filter((name) => memory(fn, name, state, 'pss') !== null).map((name) => {
        const [pss, own] = ['pss', 'private'].map((kind) => memory(fn, name, state, kind));
        const part = name === BASELINE ? '' : share(memory(fn, BASELINE, state, 'pss'), pss);
        return {name, pss, private: own, main: megabytes(pss),
                own: own === null ? '' : `${megabytes(own).slice(0, -3)} private`,
                part: part ? `${part} of ${BASELINE}` : ''};
      })]).filter(([, , entries]) => entries.some((row) => row.pss > 0));
  if (!groups.length) return null;
  const [holder] = chart((width) => drawMemory(fn, groups, width));
  const anyPrivate = groups.some(([, , entries]) => entries.some((row) => row.private !== null));
  return figure(`Memory of ${instances(fn)} instances`, 'proportional set size (PSS)', [], holder,
      anyPrivate ? legend([['var(--accent)', 'private to the instances'],
                           ['var(--accent-soft)', 'shared, counted once']]) : null);
}

// ---- phases ----------------------------------------------------------------------------------
function phaseRows(fn) {
  return methodNames(fn).map((name) => {
    const parts = Object.entries(object(method(fn, name).phases_ms))
        .filter(([, value]) => num(value) !== null && value > 0);
    return {name, parts, total: parts.reduce((sum, [, value]) => sum + value, 0)};
  }).filter((row) => row.total > 0);
}
/** All phases in the order in which they happen, as far as the methods agree. */
function phaseNames(rows) {
  const names = [];
  for (const row of [...rows].sort((a, b) => b.parts.length - a.parts.length)) {
    row.parts.forEach(([name], index) => {
      if (names.includes(name)) return;
      const before = index > 0 ? names.indexOf(row.parts[index - 1][0]) : -1;
      names.splice(before + 1, 0, name);
    });
  }
  return names;
}
const phaseColour = (index) => `var(--p${Math.min(index, 8)})`;
function drawPhases(fn, rows, names, width) {
  const labelWidth = widest(rows.map((row) => row.name), true) + 14;
  const totals = rows.map((row) => milliseconds(row.total));
  const [left, right] = [labelWidth, width - widest(totals, true) - 14];
  const longest = Math.max(...rows.map((row) => row.total));
  const [groupGap, space] = [34, 10];
  const views = [['Each method in full width', (row) => row.total, 28]];
  if (rows.length > 1) views.push(['All on one scale', () => longest, 14]);
  const svg = drawing(width,
      views.reduce((sum, [, , bar]) => sum + groupGap + rows.length * (bar + space), 0),
      `Where the time goes in ${fn.name ?? 'the function'}, by method`,
      rows.map((row) => `${row.name}: ${row.parts.map(([name, value]) =>
          `${name} ${milliseconds(value)}`).join(', ')}`).join('; '));
  let y = 0;
  for (const [title, whole, height] of views) {
    svg.append(shape('text', {class: 'small soft', x: 0, y: y + 22}, title));
    y += groupGap;
    rows.forEach((row, index) => {
      const style = `strong${isOurs(row.name) ? ' accent' : ''}`;
      const base = y + height / 2 + 5;
      svg.append(
          shape('text', {class: style, x: labelWidth - 10, y: base, 'text-anchor': 'end'},
                row.name),
          shape('text', {class: style, x: width, y: base, 'text-anchor': 'end'}, totals[index]));
      let x = left;
      for (const [name, value] of row.parts) {
        const length = value / whole(row) * (right - left);
        const place = names.indexOf(name);
        const part = shape('g', {});
        const text = amount(value);
        part.append(shape('title', {}, `${row.name} · ${name}: ${milliseconds(value)}`),
                    shape('rect', {x, y, width: Math.max(0.75, length - 1), height, rx: 2,
                                   style: `fill:${phaseColour(place)}`}));
        if (height > 20 && textWidth(text, true, 12) + 8 <= length) {
          part.append(shape('text', {class: 'small strong', x: x + length / 2, y: base - 0.5,
                                     'text-anchor': 'middle',
                                     style: `fill:var(--on-${place ? 'phase' : 'p0'})`}, text));
        }
        svg.append(part);
        x += length;
      }
      y += height + space;
    });
  }
  return svg;
}
function phasesFigure(fn) {
  const rows = phaseRows(fn);
  if (!rows.length) return null;
  const names = phaseNames(rows);
  const [holder] = chart((width) => drawPhases(fn, rows, names, width));
  return figure('Where the time goes', 'median ms', [], holder,
                legend(names.map((name, index) => [phaseColour(index), name])));
}
