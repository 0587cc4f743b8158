'use strict';
// Boxes on their way from noise to detections, over the image. The data are in
// <script id="trajectories">; '#image=1&step=4&score=0.5' in the address opens a
// view. 'step' counts calls of the network: before call k + 1 the boxes that go
// into it are shown, after a model's last one its detections.
(() => {
  const root = document.getElementById('viewer');
  const { classes, images, models } = JSON.parse(
    document.getElementById('trajectories').textContent);
  const COLOURS = ['#ffb000', '#ff4d6d', '#35b6ff', '#5ee06b', '#c77dff',
    '#ff8a3d', '#2ee6d6', '#f564d0', '#b8e04a', '#a08bff'];
  const MARGIN = 0.08; // noisy boxes reach over the border; show a little of that
  const MS_PER_STEP = 450;
  const LAST = Math.max(...models.map((m) => Math.max(...m.ways.map((w) => w.timesteps.length))));
  const state = { image: 0, step: 0, score: halfOfBest() };
  const colour = (label) => COLOURS[label % COLOURS.length];

  // Scores of models with a quality head are low: a fixed threshold would show nothing.
  function halfOfBest() {
    const best = models.flatMap((m) => m.ways.map((w) => w.detections[0]?.[4] ?? 0));
    const median = best.sort((a, b) => a - b)[Math.floor(best.length / 2)];
    return Math.min(0.5, Math.max(0.05, Math.round(50 * median) / 100));
  }

  function make(name, attributes = {}, parent = null, text = '') {
    const isSvg = ['svg', 'image', 'rect', 'g', 'text'].includes(name);
    const element = isSvg
      ? document.createElementNS('http://www.w3.org/2000/svg', name)
      : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  }

  function place(rect, [x1, y1, x2, y2]) {
    rect.setAttribute('x', x1);
    rect.setAttribute('y', y1);
    rect.setAttribute('width', Math.max(0, x2 - x1));
    rect.setAttribute('height', Math.max(0, y2 - y1));
  }

  class Panel {
    constructor(model, parent) {
      this.model = model;
      const figure = make('figure', { class: 'panel' }, parent);
      const head = make('div', { class: 'head' }, figure);
      make('b', {}, head, model.name);
      this.where = make('span', {}, head);
      this.svg = make('svg', { role: 'img', 'aria-label': model.name }, figure);
      this.caption = make('figcaption', {}, figure);
    }

    open(index) {
      const { width, height, uri } = images[index];
      this.way = this.model.ways[index];
      this.size = width;
      const [w, h] = [width * MARGIN, height * MARGIN];
      this.svg.setAttribute('viewBox', `${-w} ${-h} ${width + 2 * w} ${height + 2 * h}`);
      this.svg.replaceChildren();
      make('image', { href: uri, width, height }, this.svg);
      const proposals = make('g', { class: 'proposals' }, this.svg);
      this.rects = this.way.boxes[0].map(() => make('rect', {}, proposals));
      this.found = make('g', { class: 'detections' }, this.svg);
      this.proposals = proposals;
    }

    draw() {
      const steps = this.way.timesteps.length;
      const isDone = state.step >= steps;
      this.proposals.style.display = isDone ? 'none' : '';
      this.found.replaceChildren();
      if (isDone) this.drawDetections(steps);
      else this.drawProposals(steps);
    }

    drawProposals(steps) {
      const { boxes, scores, labels, timesteps } = this.way;
      const at = Math.floor(state.step);
      const part = state.step - at;
      let sure = 0;
      this.rects.forEach((rect, i) => {
        const from = boxes[at][i];
        place(rect, from.map((v, k) => v + part * (boxes[at + 1][i][k] - v)));
        const isSure = scores[at][i] > state.score;
        sure += isSure;
        rect.setAttribute('class', isSure ? 'sure' : 'unsure');
        rect.setAttribute('stroke', isSure ? colour(labels[at][i]) : '#fff');
      });
      this.where.textContent = `into step ${at + 1} of ${steps}, t = ${timesteps[at]}`;
      this.caption.textContent = `${this.rects.length} of ${this.way.proposals} boxes; ` +
        `${sure} come out of this step with a score > ${state.score.toFixed(2)}`;
    }

    drawDetections(steps) {
      const found = this.way.detections.filter((d) => d[4] > state.score).reverse();
      const size = this.size * 0.036;
      for (const [x1, y1, x2, y2, score, label] of found) {
        place(make('rect', { stroke: colour(label), class: 'sure' }, this.found), [x1, y1, x2, y2]);
        const name = `${classes[label]} ${score.toFixed(2)}`;
        const y = Math.max(y1, size * 1.1);
        const back = make('rect', { fill: colour(label), class: 'name' }, this.found);
        const text = make('text', { x: x1 + size * 0.2, y: y - size * 0.28, 'font-size': size },
          this.found, name);
        const width = text.getComputedTextLength() + size * 0.4;
        place(back, [x1, y - size * 1.1, x1 + width, y]);
      }
      this.where.textContent = `done after ${steps} step${steps > 1 ? 's' : ''}`;
      const best = this.way.detections.length ? this.way.detections[0][4].toFixed(2) : null;
      this.caption.textContent = `${found.length} detection${found.length === 1 ? '' : 's'} with a score > ` +
        state.score.toFixed(2) + (found.length || !best ? '' : `; the best has ${best}`);
    }
  }

  function slider(parent, name, attributes, show) {
    const label = make('label', {}, parent);
    make('span', {}, label, name);
    const input = make('input', { type: 'range', ...attributes }, label);
    const output = make('output', {}, label);
    return { input, show: (value) => { input.value = value; output.textContent = show(value); } };
  }

  const choice = make('div', { class: 'choice', role: 'group', 'aria-label': 'image' }, root);
  const buttons = images.map((image, i) => {
    const button = make('button', { type: 'button', title: image.name }, choice);
    make('img', { src: image.uri, alt: image.name }, button);
    button.addEventListener('click', () => { state.image = i; open(); });
    return button;
  });
  const row = make('div', { class: 'panels' }, root);
  const panels = models.map((model) => new Panel(model, row));
  const controls = make('div', { class: 'controls' }, root);
  const play = make('button', { type: 'button', class: 'play' }, controls);
  const step = slider(controls, 'sampling step', { min: 0, max: LAST, step: 0.02 },
    (v) => `${Math.floor(v)} of ${LAST}`);
  const score = slider(controls, 'score above', { min: 0.05, max: 0.95, step: 0.01 },
    (v) => v.toFixed(2));
  const legend = make('div', { class: 'legend' }, root);
  const shown = new Set(models.flatMap((m) => m.ways.flatMap((w) => [
    ...w.labels.flat(), ...w.detections.map((d) => d[5])])));
  for (const label of [...shown].sort((a, b) => a - b)) {
    const item = make('span', {}, legend, classes[label]);
    item.style.setProperty('--colour', colour(label));
  }

  function draw() {
    step.show(state.step);
    score.show(state.score);
    panels.forEach((panel) => panel.draw());
  }

  function open() {
    buttons.forEach((b, i) => b.setAttribute('aria-pressed', i === state.image));
    panels.forEach((panel) => panel.open(state.image));
    draw();
  }

  let before = null; // time of the last frame while it plays
  function stop() {
    before = null;
    play.textContent = '▶ play';
  }

  function tick(now) {
    if (before === null) return;
    state.step = Math.min(LAST, state.step + Math.max(0, now - before) / MS_PER_STEP);
    before = now;
    draw();
    if (state.step < LAST) requestAnimationFrame(tick);
    else stop();
  }

  play.addEventListener('click', () => {
    if (before !== null) { stop(); return; }
    if (state.step >= LAST) state.step = 0;
    play.textContent = '❚❚ pause';
    before = performance.now();
    requestAnimationFrame(tick);
  });
  step.input.addEventListener('input', () => {
    stop();
    state.step = Number(step.input.value);
    draw();
  });
  // keys go from step to step, the mouse anywhere between
  step.input.addEventListener('keydown', (event) => {
    const whole = { ArrowRight: Math.floor(state.step) + 1, ArrowUp: Math.floor(state.step) + 1,
      ArrowLeft: Math.ceil(state.step) - 1, ArrowDown: Math.ceil(state.step) - 1 }[event.key];
    if (whole === undefined) return;
    event.preventDefault();
    stop();
    state.step = Math.min(LAST, Math.max(0, whole));
    draw();
  });
  score.input.addEventListener('input', () => {
    state.score = Number(score.input.value);
    draw();
  });

  function fromAddress() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    const top = { image: images.length - 1, step: LAST, score: 0.95 };
    for (const key of Object.keys(state)) {
      const value = Number(wanted.get(key));
      if (wanted.has(key) && value >= 0) state[key] = Math.min(value, top[key]);
    }
    state.image = Math.floor(state.image);
    stop();
    open();
  }
  window.addEventListener('hashchange', fromAddress);
  fromAddress();
})();
