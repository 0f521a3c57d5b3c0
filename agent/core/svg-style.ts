/** One set of colours on its own background; every pair of ink and ground has a contrast of 4.5 or more (WCAG AA). */
interface Palette {
  readonly ground: string;
  readonly box: string;
  readonly edge: string;
  readonly ink: string;
  readonly faint: string;
  readonly tones: Readonly<Record<Tone, { readonly ink: string; readonly ground: string; readonly on: string }>>;
}

/** What a colour says; a word always says it too. 'ours' names our rules, 'plain' says nothing. */
export type Tone = 'green' | 'red' | 'amber' | 'ours' | 'plain';

const LIGHT: Palette = {
  ground: '#ffffff',
  box: '#f6f8fa',
  edge: '#afb8c1',
  ink: '#1f2328',
  faint: '#59636e',
  tones: {
    green: { ink: '#116329', ground: '#dafbe1', on: '#ffffff' },
    red: { ink: '#c01c28', ground: '#ffe0dd', on: '#ffffff' },
    amber: { ink: '#7d4e00', ground: '#fff1b8', on: '#ffffff' },
    ours: { ink: '#0550ae', ground: '#d8ecff', on: '#ffffff' },
    plain: { ink: '#1f2328', ground: '#e4e8ec', on: '#ffffff' },
  },
};

const DARK: Palette = {
  ground: '#0d1117',
  box: '#151b23',
  edge: '#4d5761',
  ink: '#e6edf3',
  faint: '#9aa4ae',
  tones: {
    green: { ink: '#56d364', ground: '#12361f', on: '#0d1117' },
    red: { ink: '#ff8078', ground: '#4a191b', on: '#0d1117' },
    amber: { ink: '#e3b341', ground: '#3d2c04', on: '#0d1117' },
    ours: { ink: '#79c0ff', ground: '#12305a', on: '#0d1117' },
    plain: { ink: '#e6edf3', ground: '#2a313a', on: '#0d1117' },
  },
};

/** The dark colours for readers who asked for dark; viewers that know no media queries show the light ones. */
export const styleSheet = (): string => `<style>${SHAPES}${colours(LIGHT)}@media (prefers-color-scheme:dark){${colours(DARK)}}</style>`;

/** `bidi-override`: letters that run from right to left must not reorder a rule. */
const SHAPES = [
  'text{font:12px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;direction:ltr;unicode-bidi:bidi-override}',
  '.strong{font-weight:700}.struck{text-decoration:line-through}.hit{fill:none;pointer-events:all}',
  '.way{fill:none;stroke-width:3;stroke-linejoin:round}.doubt{stroke-dasharray:7 5}.beyond{stroke-dasharray:2 5;stroke-width:2;fill:none}',
].join('');

function colours({ ground, box, edge, ink, faint, tones }: Palette): string {
  const base = `.ground{fill:${ground}}.box{fill:${box};stroke:${edge}}.end{fill:${ground};stroke-width:2}.ink{fill:${ink}}.faint{fill:${faint}}.beyond{stroke:${edge}}`;
  const each = Object.entries(tones).map(
    ([tone, of]) => `.${tone}{fill:${of.ink}}.${tone}-band{fill:${of.ground}}.${tone}-line{stroke:${of.ink}}.${tone}-on{fill:${of.on}}`,
  );
  return `${base}${each.join('')}`;
}
