// SPDX-License-Identifier: Apache-2.0
//
// Puts the page together: tables, header, one section per function, environment.
'use strict';

// ---- tables ----------------------------------------------------------------------------------
function allNumbers(fn) {
  const cell = (value, write = amount) => (value === null ? null : write(value));
  const columns = ['p50', 'p99', 'min', 'mean', 'max'];
  const tables = METRICS.map(([key, , title]) => [title, methodNames(fn)
      .filter((name) => p50(fn, name, key) !== null).map((name) => {
        const values = metric(fn, name, key);
        return [name, ...columns.map((column) => cell(num(values[column]))),
                cell(num(values.n) ?? (list(values.samples).length || null), grouped),
                name === BASELINE ? 'baseline' : speed(p50(fn, BASELINE, key), values.p50, '')];
      })]).filter(([, rows]) => rows.length).map(([title, rows]) =>
      table(`${title}, ms`, ['method', ...columns, 'n', `against ${BASELINE}`], rows));
  const kinds = STATES.flatMap(([state]) => [[state, 'pss'], [state, 'private']]);
  const memoryRows = methodNames(fn).map((name) => [name, ...kinds.map(([state, kind]) =>
      cell(memory(fn, name, state, kind), (mb) => grouped(mb, 1)))])
      .filter((row) => row.slice(1).some((one) => one !== null));
  if (memoryRows.length) {
    tables.push(table(`Memory of ${instances(fn)} instances, MB`, ['method', 'idle', 'private',
        'after one request', 'private', 'after touching all', 'private'], memoryRows));
  }
  const phases = phaseRows(fn);
  if (phases.length) {
    tables.push(table('Phases, median ms', ['phase', ...phases.map((row) => row.name)],
        [...phaseNames(phases).map((phase) => [phase, ...phases.map((row) =>
            cell(num(Object.fromEntries(row.parts)[phase])))]),
         ['sum', ...phases.map((row) => amount(row.total))]]));
  }
  return tables.length ? el('details', '', el('summary', '', 'All numbers as tables'), ...tables)
                       : null;
}

// ---- the page --------------------------------------------------------------------------------
const fill = (id, ...content) =>
    document.getElementById(id).append(...content.filter((part) => part !== null));
const plural = (count, word, words = `${word}s`) =>
  `${grouped(count)} ${count === 1 ? word : words}`;
const headlineFunction = list(report.functions)
    [document.querySelector('h1').dataset.function || -1] ?? null;
const [checked, wrong] = [num(report.answers_checked), num(report.answers_wrong)];

function tile(number, text, classes = '') {
  return number === null ? null : el('div', `tile ${classes}`, el('b', '', number),
                                     el('span', '', text));
}
function tiles(fn) {
  const result = [];
  const ours = fn ? ourMethod(fn) : null;
  const [key, name] = fn ? headlineMetric(fn) ?? [] : [];
  const ratio = key ? speed(p50(fn, BASELINE, key), p50(fn, ours, key), '') : null;
  if (ratio) {
    const [times, comparison] = ratio.includes('×') ? ratio.split(' ') : ['1×', null];
    result.push(tile(times, comparison ? `${comparison} to ${name} than ${BASELINE}`
                                       : `as fast to ${name} as ${BASELINE}`));
    result[0].firstChild.classList.add('ours');
  }
  const part = ours ? share(memory(fn, BASELINE, 'idle', 'pss'), memory(fn, ours, 'idle', 'pss'))
                    : null;
  if (part) {
    result.push(tile(part, `of the memory of ${instances(fn)} idle copies`));
    result.at(-1).firstChild.classList.add('ours');
  }
  if (checked && wrong !== null) {
    result.push(tile(grouped(wrong), `wrong of ${plural(checked, 'answer')} checked`,
                     wrong > 0 ? 'bad' : 'good'));
  }
  return result;
}
function verdict() {
  const text = wrong > 0
      ? ['bad', `${plural(wrong, 'answer was', 'answers were')} wrong` +
         `${checked ? ` of ${grouped(checked)} checked` : ''}. ` +
         'These restores are not correct: do not trust the times below.']
      : checked && wrong === 0 ? null
      : ['warn', 'The answers were not checked: these times say nothing about correctness.'];
  if (!text) return null;
  const [kind, words] = text;
  const node = el('p', `verdict ${kind}`, kind === 'bad' ? el('strong', '', words) : words);
  node.setAttribute('role', 'alert');
  return node;
}
function glance() {
  const [key, words] = METRICS.find(([metricKey]) => functions.some((fn) =>
      methodNames(fn).some((name) => p50(fn, name, metricKey) !== null))) ?? METRICS[0];
  const rows = functions.map((fn) => {
    const ours = ourMethod(fn);
    const link = el('a', '', fn.name ?? 'function');
    link.href = `#f${functions.indexOf(fn)}`;
    const time = (name) => (name && p50(fn, name, key) !== null
        ? milliseconds(p50(fn, name, key)) : null);
    const megabyte = (name) => (name && memory(fn, name, 'idle', 'pss') !== null
        ? megabytes(memory(fn, name, 'idle', 'pss')) : null);
    const strong = (text) => (text ? el('strong', 'ours', text) : null);
    return [link, num(object(fn.template).mb) === null ? null : megabytes(fn.template.mb),
            time(BASELINE), strong(time(ours)),
            ours ? speed(p50(fn, BASELINE, key), p50(fn, ours, key), '') : null,
            megabyte(BASELINE), strong(megabyte(ours))];
  });
  const best = [...new Set(functions.map(ourMethod).filter(Boolean))].join(' / ') || 'ours';
  const count = functions.length ? instances(functions[0]) : 10;
  const columns = ['function', 'template', `${words}, ${BASELINE}`, `${words}, ${best}`, '',
                   `${count} idle, ${BASELINE}`, `${count} idle, ${best}`];
  const used = columns.map((_, index) => rows.some((row) => row[index] !== null));
  return table('', columns.filter((_, index) => used[index]),
               rows.map((row) => row.filter((_, index) => used[index])));
}
function section(fn, index) {
  const template = object(fn.template);
  const count = (key, word, words) => (num(template[key]) === null
      ? null : plural(template[key], word, words));
  const meta = [
    num(template.mb) === null ? null : `${megabytes(template.mb)} template`,
    count('pages', 'page'),
    num(template.shared_pages) === null ? null : `${grouped(template.shared_pages)} shared`,
    num(template.precopied_pages) === null ? null
        : `${grouped(template.precopied_pages)} copied ahead`,
    count('processes', 'process', 'processes'), count('threads', 'thread'),
    num(fn.runs) === null ? null : `${plural(fn.runs, 'run')} per method`,
  ].filter(Boolean).join(' · ');
  const lower = [memoryFigure(fn), phasesFigure(fn)].filter(Boolean);
  const times = timeFigure(fn);
  const node = el('section', '', el('h2', '', fn.name ?? 'function'), el('p', 'meta', meta), times,
      lower.length ? el('div', lower.length > 1 ? 'pair' : '', ...lower) : null,
      times || lower.length ? allNumbers(fn) : el('p', 'note', 'Nothing was measured.'));
  node.id = `f${index}`;
  return node;
}
function about() {
  const load = list(environment.load).filter((value) => num(value) !== null);
  const cores = num(environment.cores);
  const text = (value) => (value === null || value === undefined || value === '' ? null
                           : typeof value === 'object' ? JSON.stringify(value) : String(value));
  const known = {
    kernel: 'Kernel', cpu: 'Processor', cores: 'Cores', memory_mb: 'Memory', cgroup: 'Cgroups',
    criu: 'CRIU', criu_root: 'CRIU root', memplate: 'Memplate', load: 'Load',
  };
  const value = (key) => (key === 'memory_mb' && num(environment[key]) !== null
      ? (environment[key] >= 1000 ? `${grouped(environment[key] / 1000, 1)} GB`
                                  : megabytes(environment[key]))
      : key === 'load' ? text(load.map((one) => grouped(one, 2)).join(', '))
                       : text(environment[key]));
  const others = Object.keys(environment).filter((key) => !Object.hasOwn(known, key));
  const keys = [...Object.keys(known), ...others];
  const title = (key) => (Object.hasOwn(known, key) ? known[key] : key.replaceAll('_', ' '));
  const rows = keys.map((key) => [title(key), value(key)])
      .concat([['Date', text(report.generated)]]).filter(([, cell]) => cell !== null);
  const busy = load.length && cores && load[0] > cores
      ? el('p', 'note', `The machine was busy (load ${grouped(load[0], 2)} on ` +
           `${plural(cores, 'core')}): read minima and ratios rather than medians.`) : null;
  const methods = [...new Set(functions.flatMap(methodNames))].filter((name) => MEANING[name]);
  const list_ = el('dl');
  for (const name of methods) {
    list_.append(el('dt', isOurs(name) ? 'ours' : '', name), el('dd', '', MEANING[name]));
  }
  const environmentTable = rows.length === 0 ? null : el('table', '', el('tbody', '',
      ...rows.map(([name, cell]) => el('tr', '', el('th', '', name), el('td', '', cell)))));
  return el('section', '', el('div', 'pair',
      el('div', '', el('h3', '', 'Environment'), environmentTable, busy),
      el('div', '', text(report.command) ? el('h3', '', 'Reproduce') : null,
         text(report.command) ? el('pre', 'command', text(report.command)) : null,
         methods.length ? el('h3', '', 'Methods') : null, methods.length ? list_ : null)));
}

const date = new Date(report.generated ?? NaN);
fill('date', Number.isNaN(date.getTime()) ? ''
    : `${date.toISOString().slice(0, 16).replace('T', ' ')} UTC`);
fill('verdict', verdict());
const main = headlineFunction;
if (main) {
  const ours = ourMethod(main);
  const runs = num(main.runs) === null ? '' : ` Medians of ${plural(main.runs, 'run')} per method.`;
  fill('lead', methodNames(main).includes(BASELINE)
      ? `${ours} against ${BASELINE} (${MEANING[BASELINE]}).${runs}`
      : `${ours}, without ${BASELINE} to compare with.${runs}`);
}
fill('tiles', ...tiles(main));
if (functions.length > 1) fill('glance', glance());
fill('functions', ...functions.map(section));
fill('about', about());
for (const draw of charts) draw();

// On paper nothing can be opened.
let opened = [];
addEventListener('beforeprint', () => {
  opened = [...document.querySelectorAll('details:not([open])')];
  for (const one of opened) one.open = true;
});
addEventListener('afterprint', () => { for (const one of opened) one.open = false; });
