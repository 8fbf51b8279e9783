/** The events that the daemon still keeps. */
import type { Client, VeldEvent } from '../../client/client.ts';

/** How long the stream may be silent before all that was kept has come, in milliseconds. */
const SILENCE = 500;
const LIMIT = 2000;

/** Read the kept events, and stop where the new ones begin. */
export async function recentEvents(client: Client): Promise<VeldEvent[]> {
  const events: VeldEvent[] = [];
  const stop = new AbortController();
  let timer = setTimeout(() => stop.abort(), SILENCE);
  try {
    for await (const event of client.events({ since: 0, signal: stop.signal })) {
      events.push(event);
      if (events.length >= LIMIT) break;
      clearTimeout(timer);
      timer = setTimeout(() => stop.abort(), SILENCE);
    }
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  } finally {
    clearTimeout(timer);
  }
  return events;
}
