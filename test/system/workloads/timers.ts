/** cron and timers of systemd: what is due after a resume happens, and nothing happens twice. */
import assert from 'node:assert/strict';
import { until } from '../../lib/wait.ts';
import { SERVICES } from './services.ts';
import type { Workload } from './types.ts';

/** Services write down when their timer elapsed (systemd.exec(5), of 252 and later): on a busy machine they themselves may come in the next one's time. */
const UNITS = `
printf '[Service]\\nType=oneshot\\nExecStart=/bin/sh -c "echo $$((TRIGGER_TIMER_REALTIME_USEC / 1000000)) >>/root/calendar"\\n' >/etc/systemd/system/calendar.service
printf '[Timer]\\nOnCalendar=*:*:0/5\\nAccuracySec=100ms\\n' >/etc/systemd/system/calendar.timer
printf '[Service]\\nType=oneshot\\nExecStart=/bin/sh -c "echo $$((TRIGGER_TIMER_REALTIME_USEC / 1000000)) >>/root/monotonic"\\n' >/etc/systemd/system/monotonic.service
printf '[Timer]\\nOnActiveSec=3\\nOnUnitActiveSec=3\\nAccuracySec=100ms\\n' >/etc/systemd/system/monotonic.timer
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
