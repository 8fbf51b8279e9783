/** Text for people: sizes, times, and safe characters. */

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** Bytes with a binary unit: `0 B`, `1.5 GiB`, `512 MiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  // 1023.96 MiB would print as 1024 MiB: carry into the next unit.
  if (unit > 0 && unit < UNITS.length - 1 && Math.round(value) >= 1024) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits).replace(/\.0$/, '')} ${UNITS[unit]}`;
}

/** Seconds in at most two units: `42 s`, `3 min 5 s`, `2 d 4 h`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 10 && !Number.isInteger(seconds)) return `${seconds.toFixed(1)} s`;
  const total = Math.max(0, Math.round(seconds));
  const parts: [number, string][] = [[Math.floor(total / 86_400), 'd'], [Math.floor(total / 3600) % 24, 'h'], [Math.floor(total / 60) % 60, 'min'], [total % 60, 's']];
  const first = parts.findIndex(([n]) => n > 0);
  if (first === -1) return '0 s';
  return parts.slice(first, first + 2).filter(([n]) => n > 0).map(([n, unit]) => `${n} ${unit}`).join(' ');
}

/** An ISO time as local `2026-11-23 14:56:02`, followed by how long ago it was. */
export function formatTime(iso: string, now = Date.now()): string {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return iso;
  return `${formatClock(at)} (${formatSeconds((now - at.getTime()) / 1000)} ago)`;
}

/** Local `2026-11-23 14:56:02`. */
export function formatClock(at: Date): string {
  const two = (n: number): string => String(n).padStart(2, '0');
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** How long since an ISO time, for tables. */
export function formatAge(iso: string | null, now = Date.now()): string {
  return iso === null ? '-' : formatSeconds((now - Date.parse(iso)) / 1000);
}

/**
 * Text that came from inside a VE, made harmless for a terminal: control characters other than newline and tab, and escape
 * sequences other than colours, disappear. What a VE prints must not retitle, answer for or reprogram the operator's terminal.
 */
export function sanitise(text: string): string {
  // eslint-disable-next-line no-control-regex
  return text.replace(/(\x1b\[[0-9;:]*m)|\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])|\r(?=\n)|[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]/g, '$1');
}
