/** cron and timers of systemd: what is due after a resume happens, and nothing happens twice. */
import assert from 'node:assert/strict';
import { until } from '../../lib/wait.ts';
import { SERVICES } from './services.ts';
import type { Workload } from './types.ts';

/** When the timer of a service elapsed last: on a busy machine the service itself may come in the next one's time. (The variables of systemd.exec(5) for that say the first time for ever in 252.) */
const elapsed = (name: string): string => `busctl get-property org.freedesktop.systemd1 /org/freedesktop/systemd1/unit/${name}_2etimer org.freedesktop.systemd1.Timer LastTriggerUSec | cut -c 3-12`;
const timer = (name: string, when: string): string => `
printf '[Service]\\nType=oneshot\\nExecStart=/bin/sh -c "${elapsed(name)} >>/root/${name}"\\n' >/etc/systemd/system/${name}.service
printf '[Timer]\\n${when}\\nAccuracySec=100ms\\n' >/etc/systemd/system/${name}.timer`;

const UNITS = `${timer('calendar', 'OnCalendar=*:*:0/5')}${timer('monotonic', 'OnActiveSec=3\\nOnUnitActiveSec=3')}
echo '* * * * * root date +\\%s >>/root/cron' >/etc/cron.d/work
systemctl daemon-reload && systemctl start calendar.timer monotonic.timer && systemctl is-active cron`;

export function cronAndTimers(): Workload {
  return {
    name: 'cron and timers', packages: SERVICES,
    async setup({ sh }) {
      await sh(UNITS);
    },
    async check({ sh }) {
      const resumed = Number(await sh('date +%s'));
      const times = async (file: string): Promise<number[]> => (await sh(`cat /root/${file} 2>/dev/null || :`)).trim().split('\n').map(Number);
      for (const [file, seconds] of [['calendar', 5], ['monotonic', 3], ['cron', 60]] as const) {
        await until(`${file} after the last resume`, async () => (await times(file)).at(-1)! > resumed, (seconds + 20) * 1000, 500);
        const slots = (await times(file)).map((time) => (file === 'monotonic' ? time : Math.floor(time / seconds)));
        assert.equal(new Set(slots).size, slots.length, `${file} happened twice: ${slots.join(' ')}`);
      }
    },
  };
}
