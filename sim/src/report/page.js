'use strict';
// The timeline: rows of spans and ticks on a canvas, the same events in a table beside it.
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const at = id => document.getElementById(id);
  const GUTTER = 118, END = Math.max(1, data.end_ms), FINAL = 4294967295;
  const seconds = ms => (ms / 1000).toFixed(3) + ' s';

  // ---- What there is to draw: rows from top to bottom, each with its items.
  const rows = [];
  const row = (label, height, kind) => {
    const made = { label, height, kind, items: [], y: 0 };
    rows.push(made);
    return made;
  };
  const events = data.events.map(({ at_ms, node, kind }, number) => ({ ...kind, at_ms, node, number })).sort((a, b) => a.at_ms - b.at_ms);

  /// Puts overlapping spans one under the other.
  const levels = spans => {
    const ends = [];
    for (const span of spans) {
      let level = ends.findIndex(end => end <= span.from);
      if (level < 0) level = ends.length;
      ends[level] = Math.max(span.to, span.from + END / 100);
      span.level = level;
    }
    return ends.length;
  };

  // What still lasts when the healing begins ends there.
  const phases = events.filter(e => e.event === 'phase');
  const healed = phases.find(e => e.name === 'heal')?.at_ms ?? END;
  const endOf = e => Math.min(e.until_ms ?? e.at_ms, e.at_ms < healed ? healed : END);

  const faultsOf = node => events.filter(e => e.event === 'fault' && e.node === node).map(e => ({
    from: e.at_ms, to: endOf(e), color: e.held_back ? 'held' : 'fault',
    // The lane says which node it is.
    label: node === null ? e.what : e.what.replace(new RegExp(`^node ${node} `), ''),
    tip: `${seconds(e.at_ms)}  ${e.what}${e.until_ms ? `\nuntil ${seconds(endOf(e))}` : ''}${e.held_back ? `\nheld back: ${e.held_back}` : ''}`,
    event: e.number, point: !e.until_ms, held: !!e.held_back,
  }));
  const faultRows = (node, label) => {
    const spans = faultsOf(node);
    const count = levels(spans);
    for (let level = 0; level < count; level++) {
      row(level ? '' : label, 17, 'faults').items = spans.filter(s => s.level === level);
    }
  };

  const shards = [...new Set(events.filter(e => e.event === 'role').map(e => e.shard))].sort((a, b) => a - b);
  const nodes = [...new Set([...data.nodes.keys(), ...events.filter(e => e.node !== null).map(e => e.node)])].sort((a, b) => a - b);

  faultRows(null, 'network, cluster');
  for (const node of nodes) {
    const own = events.filter(e => e.node === node);
    const zone = data.nodes[node] ? `, zone ${data.nodes[node].zone}` : '';
    const life = row(`node ${node}${zone}`, 18, 'life');
    let alive = null;
    const end = (to, why) => {
      if (!alive) return;
      const { from, serving, incarnation, event } = alive;
      const tip = `node ${node}, life ${incarnation}\n${seconds(from)} to ${seconds(to)}${why ? `\nended: ${why}` : ''}`;
      life.items.push({ from, to, color: 'alive', tip, event });
      if (serving !== undefined) life.items.push({ from: serving, to, color: 'serving', tip, event });
      if (why) life.items.push({ from: to, to, color: 'mark', cross: true, tip, event: alive.ended ?? event });
      alive = null;
    };
    const roles = new Map(shards.map(shard => [shard, { row: null, open: null }]));
    const shown = shards.length <= 16;
    for (const [shard, role] of roles) if (shown) role.row = row(`shard ${shard}`, 11, 'role');
    const closeRole = (role, to) => {
      if (role.open && role.row) role.row.items.push({ ...role.open, to, tip: `${role.open.tip} to ${seconds(to)}` });
      role.open = null;
    };
    for (const e of own) {
      if (e.event === 'started') {
        end(e.at_ms);
        alive = { from: e.at_ms, incarnation: e.incarnation, event: e.number };
      } else if (e.event === 'serving') {
        if (alive) alive.serving = e.at_ms;
      } else if (e.event === 'ended') {
        if (alive) alive.ended = e.number;
        end(e.at_ms, e.why);
        for (const role of roles.values()) closeRole(role, e.at_ms);
      } else if (e.event === 'role') {
        const role = roles.get(e.shard);
        closeRole(role, e.at_ms);
        role.open = {
          from: e.at_ms, color: ['leader', 'candidate', 'learner'].includes(e.role) ? e.role : 'follower',
          label: e.role === 'leader' ? `term ${e.term}` : '', event: e.number,
          tip: `node ${node}, shard ${e.shard}: ${e.role}, term ${e.term}\n${seconds(e.at_ms)}`,
        };
      }
    }
    end(END);
    for (const role of roles.values()) closeRole(role, END);
    faultRows(node, 'faults');
  }
  const calls = events.filter(e => e.event === 'call');
  const clients = [...new Set(calls.map(e => e.client))].sort((a, b) => a - b);
  for (const client of clients) {
    const made = row(client === FINAL ? 'final reading' : `client ${client}`, 15, 'calls');
    made.items = calls.filter(e => e.client === client).map(e => ({
      from: e.called_ms, to: e.at_ms, color: ['acknowledged', 'refused'].includes(e.answer) ? e.answer : 'unknown',
      tip: `${seconds(e.called_ms)} to ${seconds(e.at_ms)}\n${e.what}\n${e.answer}`, event: e.number, call: true,
    }));
  }
  let y = 6, last = '';
  for (const r of rows) {
    // A little air between groups.
    if (r.kind === 'life' || (r.kind === 'calls' && last !== 'calls')) y += 9;
    r.y = y;
    y += r.height + 1;
    last = r.kind;
  }
  const HEIGHT = y + 30;

  // ---- Drawing.
  const axis = at('axis'), lanes = at('lanes'), scroll = at('scroll');
  const view = { from: 0, to: END };
  let width = 0, colors = {}, chosen = null;
  const x = ms => GUTTER + (ms - view.from) / (view.to - view.from) * (width - GUTTER);
  const msAt = px => view.from + (px - GUTTER) / (width - GUTTER) * (view.to - view.from);

  const readColors = () => {
    const style = getComputedStyle(document.documentElement);
    const names = ['back', 'panel', 'stripe', 'line', 'text', 'faint', 'alive', 'serving', 'leader', 'follower', 'candidate',
      'learner', 'on-leader', 'fault', 'held', 'on-fault', 'acknowledged', 'unknown', 'refused', 'violation', 'mark'];
    colors = Object.fromEntries(names.map(name => [name, style.getPropertyValue('--' + name).trim()]));
  };
  const sized = (canvas, height) => {
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.width = width + 'px';
      canvas.style.height = height + 'px';
    }
    const pen = canvas.getContext('2d');
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.font = '11px system-ui, sans-serif';
    pen.textBaseline = 'middle';
    return pen;
  };
  const steps = () => {
    const wanted = (view.to - view.from) / Math.max(2, (width - GUTTER) / 90);
    const power = 10 ** Math.floor(Math.log10(Math.max(wanted, 0.1)));
    return [1, 2, 5, 10].map(n => n * power).find(step => step >= wanted);
  };
  const ticks = draw => {
    const step = steps();
    for (let t = Math.ceil(view.from / step) * step; t <= view.to; t += step) draw(t, step);
  };

  const drawAxis = () => {
    const pen = sized(axis, 34);
    pen.fillStyle = colors.panel;
    pen.fillRect(0, 0, width, 34);
    phases.forEach((phase, i) => {
      const from = Math.max(GUTTER, x(phase.at_ms)), to = Math.min(width, x(phases[i + 1]?.at_ms ?? END));
      if (to <= from) return;
      pen.fillStyle = i % 2 ? colors.alive : colors.serving;
      pen.fillRect(from, 0, to - from, 15);
      pen.fillStyle = colors.text;
      write(pen, phase.name, from + 4, 8, to - from - 8);
    });
    pen.fillStyle = colors.faint;
    ticks((t, step) => {
      if (x(t) < GUTTER) return;
      pen.fillRect(x(t), 28, 1, 6);
      pen.fillText((t / 1000).toFixed(step < 10 ? 3 : step < 1000 ? 2 : 0) + ' s', x(t) + 3, 24);
    });
    for (const v of data.violations) if (x(v.at_ms) >= GUTTER) {
      pen.fillStyle = colors.violation;
      pen.fillRect(x(v.at_ms) - 1, 15, 2, 19);
    }
  };
  const wides = new Map();
  const wideOf = (pen, text) => {
    if (!wides.has(text)) wides.set(text, pen.measureText(text).width);
    return wides.get(text);
  };
  const write = (pen, text, px, py, room) => {
    if (room < 14) return;
    const wide = wideOf(pen, text);
    const fits = Math.floor(text.length * room / wide);
    pen.fillText(wide <= room ? text : text.slice(0, Math.max(1, fits - 2)) + '…', px, py);
  };

  const drawItem = (pen, r, item, next) => {
    const free = next ? x(next.from) - 12 : width;
    const left = x(item.from), right = x(item.to);
    if (right < GUTTER - 8 || left > width + 8) return;
    const from = Math.max(GUTTER, left), wide = Math.max(right, left + 2) - from;
    pen.fillStyle = colors[item.color];
    if (item.cross) {
      pen.fillRect(left - 1, r.y - 2, 2.5, r.height + 4);
      return;
    }
    if (item.call) {
      // An answer that nobody got is taller; a refusal is lower: not by colour alone.
      const inset = { acknowledged: 3, unknown: 0, refused: 6 }[item.color];
      pen.globalAlpha = 0.35;
      pen.fillRect(from, r.y + inset, wide, r.height - 2 * inset);
      pen.globalAlpha = 1;
      pen.fillRect(Math.max(GUTTER, right - 2), r.y + inset, 2, r.height - 2 * inset);
      return;
    }
    if (item.point) {
      pen.beginPath();
      pen.moveTo(left, r.y + 2);
      pen.lineTo(left + 6, r.y + r.height / 2);
      pen.lineTo(left, r.y + r.height - 2);
      pen.lineTo(left - 6, r.y + r.height / 2);
      pen.closePath();
      pen.fill();
      pen.fillStyle = item.held ? colors.faint : colors.text;
      write(pen, item.label, left + 10, r.y + r.height / 2, free - left - 10);
      return;
    }
    pen.fillRect(from, r.y, wide, r.height);
    if (!item.label) return;
    const inside = r.kind === 'role' || wideOf(pen, item.label) < wide - 8 || free - from - wide < wide;
    if (inside) {
      pen.fillStyle = r.kind === 'role' ? colors['on-leader'] : colors['on-fault'];
      write(pen, item.label, from + 4, r.y + r.height / 2 + 0.5, wide - 6);
    } else {
      pen.fillStyle = item.held ? colors.faint : colors.text;
      write(pen, item.label, from + wide + 5, r.y + r.height / 2 + 0.5, free - from - wide - 5);
    }
  };

  const drawLanes = () => {
    const pen = sized(lanes, Math.max(HEIGHT, scroll.clientHeight));
    const high = Math.max(HEIGHT, scroll.clientHeight);
    pen.fillStyle = colors.back;
    pen.fillRect(0, 0, width, high);
    pen.fillStyle = colors.line;
    ticks(t => x(t) >= GUTTER && pen.fillRect(x(t), 0, 1, high));
    pen.fillStyle = colors.faint;
    for (const phase of phases) if (x(phase.at_ms) >= GUTTER) pen.fillRect(x(phase.at_ms), 0, 1, high);
    pen.save();
    pen.beginPath();
    pen.rect(GUTTER, 0, width - GUTTER, high);
    pen.clip();
    for (const r of rows) {
      if (r.kind === 'role' || r.kind === 'calls') {
        pen.fillStyle = colors.stripe;
        pen.fillRect(GUTTER, r.y, width - GUTTER, r.height);
      }
      r.items.forEach((item, i) => drawItem(pen, r, item, r.items[i + 1]));
    }
    data.violations.forEach((v, i) => {
      const px = x(v.at_ms);
      pen.fillStyle = colors.violation;
      pen.fillRect(px - 1, 0, 2, high);
      if (i) return;
      const text = `${v.invariant}: ${v.what.split('\n')[0]}`;
      const wide = Math.min(wideOf(pen, text) + 12, width - GUTTER - 4);
      const left = Math.max(GUTTER, Math.min(px, width - wide));
      pen.fillRect(left, HEIGHT - 24, wide, 18);
      pen.fillStyle = colors.back;
      write(pen, text, left + 6, HEIGHT - 15, wide - 10);
    });
    if (chosen) {
      pen.fillStyle = colors.mark;
      pen.fillRect(x(chosen.at_ms), 0, 1, high);
    }
    pen.restore();
    for (const r of rows) {
      pen.fillStyle = r.kind === 'life' || r.kind === 'calls' ? colors.text : colors.faint;
      pen.font = (r.kind === 'life' ? '600 ' : '') + '11px system-ui, sans-serif';
      pen.fillText(r.label, r.kind === 'role' || r.label === 'faults' ? 22 : 10, r.y + r.height / 2 + 0.5);
    }
  };
  let asked = false;
  const draw = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      width = at('chart').clientWidth;
      drawAxis();
      drawLanes();
    });
  };

  // ---- Moving about.
  const show = (from, to) => {
    const length = Math.min(END * 1.02, Math.max(5, to - from));
    view.from = Math.max(-END * 0.01, Math.min(from, END * 1.01 - length));
    view.to = view.from + length;
    draw();
  };
  const whole = () => show(-END * 0.005, END * 1.015);
  const around = ms => {
    const half = Math.min((view.to - view.from) / 2, 1500);
    show(ms - half, ms + half);
  };
  const zoom = (factor, px) => {
    const fixed = msAt(Math.max(px, GUTTER));
    show(fixed - (fixed - view.from) * factor, fixed + (view.to - fixed) * factor);
  };
  let drag = null;
  for (const canvas of [lanes, axis]) {
    canvas.addEventListener('wheel', e => {
      // Over the names the wheel scrolls, as everywhere.
      if (e.offsetX < GUTTER || e.ctrlKey || e.shiftKey) return;
      e.preventDefault();
      if (Math.abs(e.deltaX) > Math.abs(e.deltaY)) {
        const by = e.deltaX / width * (view.to - view.from);
        show(view.from + by, view.to + by);
      } else zoom(Math.exp(Math.max(-100, Math.min(100, e.deltaY)) * 0.004), e.offsetX);
    }, { passive: false });
    canvas.addEventListener('pointerdown', e => {
      drag = { x: e.clientX, y: e.clientY, from: view.from, to: view.to, top: scroll.scrollTop, moved: false };
      canvas.setPointerCapture(e.pointerId);
    });
    canvas.addEventListener('pointermove', e => {
      if (!drag) return hover(e, canvas === lanes);
      const dx = e.clientX - drag.x;
      if (Math.abs(dx) + Math.abs(e.clientY - drag.y) > 3) drag.moved = true;
      if (!drag.moved) return;
      tip.hidden = true;
      lanes.classList.add('drags');
      const by = -dx / (width - GUTTER) * (drag.to - drag.from);
      show(drag.from + by, drag.to + by);
      scroll.scrollTop = drag.top - (e.clientY - drag.y);
    });
    canvas.addEventListener('pointerup', e => {
      if (drag && !drag.moved && canvas === lanes) choose(under(e)?.event, false);
      drag = null;
      lanes.classList.remove('drags');
    });
    canvas.addEventListener('pointercancel', () => { drag = null; lanes.classList.remove('drags'); });
    canvas.addEventListener('pointerleave', () => { tip.hidden = true; });
    canvas.addEventListener('dblclick', whole);
  }
  const violation = () => data.violations.length && (show(data.violations[0].at_ms - 1500, data.violations[0].at_ms + 500));
  document.addEventListener('keydown', e => {
    if (e.target.tagName === 'INPUT') return;
    const length = view.to - view.from;
    const keys = {
      ArrowLeft: () => show(view.from - length / 10, view.to - length / 10),
      ArrowRight: () => show(view.from + length / 10, view.to + length / 10),
      '+': () => zoom(0.7, width / 2), '=': () => zoom(0.7, width / 2), '-': () => zoom(1.4, width / 2),
      '0': whole, v: violation, '/': () => { e.preventDefault(); at('filter').focus(); },
    };
    keys[e.key]?.();
  });
  at('whole').addEventListener('click', whole);
  at('moment').addEventListener('click', violation);
  at('moment').hidden = !data.violations.length;

  // ---- What is under the pointer.
  const tip = at('tip');
  const under = e => {
    const found = rows.find(r => e.offsetY >= r.y - 1 && e.offsetY <= r.y + r.height + 1);
    if (!found || e.offsetX < GUTTER) return null;
    const near = item => {
      const left = x(item.from), right = Math.max(x(item.to), left + (item.point ? 6 : 2));
      return e.offsetX >= left - (item.point ? 7 : 2) && e.offsetX <= right + 2;
    };
    return found.items.findLast(near);
  };
  const hover = (e, overLanes) => {
    const near = data.violations.find(v => Math.abs(x(v.at_ms) - e.offsetX) < 4);
    const text = near ? `${seconds(near.at_ms)}  ${near.invariant} violated\n${near.what}`
      : overLanes ? under(e)?.tip : e.offsetX > GUTTER ? seconds(msAt(e.offsetX)) : null;
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.min(e.clientX + 14, innerWidth - box.width - 8) + 'px';
    tip.style.top = Math.min(e.clientY + 16, innerHeight - box.height - 8) + 'px';
  };

  // ---- The table.
  const words = e => {
    switch (e.event) {
      case 'phase': return `phase: ${e.name}`;
      case 'started': return `started, life ${e.incarnation}`;
      case 'serving': return 'serving';
      case 'ended': return `ended: ${e.why}`;
      case 'role': return `shard ${e.shard}: ${e.role}, term ${e.term}`;
      case 'fault': return e.held_back ? `held back: ${e.what} (${e.held_back})` : `fault: ${e.what}`;
      case 'call': return `${e.answer}: ${e.what}`;
      default: return `${e.invariant} violated: ${e.what}`;
    }
  };
  const who = e => e.event === 'call' ? (e.client === FINAL ? 'reading' : `client ${e.client}`) : e.node === null ? '' : `node ${e.node}`;
  const listed = events.map(e => ({ ...e, words: words(e), who: who(e) }));
  const MOST = 3000;
  const fill = () => {
    const wanted = at('filter').value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = listed.filter(e => {
      const text = `${e.event} ${e.who} ${e.words}`.toLowerCase();
      return wanted.every(word => text.includes(word));
    });
    const body = document.createDocumentFragment();
    for (const e of fits.slice(0, MOST)) {
      const line = document.createElement('tr');
      line.className = e.event + (e.held_back ? ' held' : '') + (chosen && chosen.number === e.number ? ' chosen' : '');
      line.dataset.number = e.number;
      for (const text of [(e.at_ms / 1000).toFixed(3), e.who, e.words]) line.appendChild(document.createElement('td')).textContent = text;
      body.appendChild(line);
    }
    at('rows').replaceChildren(body);
    const more = fits.length > MOST ? `, the first ${MOST} shown` : '';
    at('count').textContent = `${fits.length} of ${listed.length} events${more}`;
  };
  const choose = (number, move) => {
    chosen = listed.find(e => e.number === number) ?? null;
    if (chosen && move) around(chosen.at_ms);
    for (const line of at('rows').children) {
      const is = chosen && Number(line.dataset.number) === chosen.number;
      line.classList.toggle('chosen', !!is);
      if (is && !move) line.scrollIntoView({ block: 'center' });
    }
    draw();
  };
  at('rows').addEventListener('click', e => {
    const line = e.target.closest('tr');
    if (line) choose(Number(line.dataset.number), true);
  });
  at('filter').addEventListener('input', fill);

  // ---- The head.
  at('name').textContent = data.name;
  at('verdict').textContent = data.passed ? 'passed'
    : data.violations.map(v => `${v.invariant} violated at ${seconds(v.at_ms)}: ${v.what}`).join('\n');
  at('verdict').className = data.passed ? '' : 'failed';
  at('summary').textContent = `${data.summary}; ${seconds(END)} simulated; version ${data.version}; trace ${data.trace_hash.slice(0, 16)}`;
  at('plan').textContent = data.plan;
  for (const name of ['leader', 'follower', 'candidate', 'learner', 'fault', 'held', 'acknowledged', 'unknown', 'refused', 'violation']) {
    const entry = at('legend').appendChild(document.createElement('span'));
    entry.appendChild(document.createElement('i')).style.background = `var(--${name})`;
    entry.append(name === 'held' ? 'held back' : name);
  }
  const dark = wanted => {
    document.documentElement.classList.toggle('dark', wanted);
    readColors();
    draw();
  };
  const system = matchMedia('(prefers-color-scheme: dark)');
  system.addEventListener('change', e => dark(e.matches));
  at('theme').addEventListener('click', () => dark(!document.documentElement.classList.contains('dark')));
  addEventListener('resize', draw);
  dark(system.matches);
  fill();
  whole();
})();
