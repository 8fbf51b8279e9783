/** tmux with full-screen programs: one that moves by itself, one that waits for keys. */
import assert from 'node:assert/strict';
import { until } from '../../lib/wait.ts';
import { SERVICES } from './services.ts';
import type { Workload } from './types.ts';

/** A shell that holds /dev/tty open cannot be taken along. */
export function tmuxWithDash(): Workload {
  return {
    name: 'tmux with dash', packages: SERVICES,
    async setup({ sh }) {
      await sh('systemd-run --quiet --unit people -p Type=forking -p Environment=TERM=screen tmux new-session -d sh && sleep 1 && ls -l /proc/$(pgrep -P $(pidof tmux:\\ server || pidof tmux) sh)/fd | grep -q /dev/tty');
    },
    refused: /\(sh\) has its terminal open as \/dev\/tty/,
  };
}

export function tmux(): Workload {
  return {
    name: 'tmux with top and less', packages: SERVICES,
    async setup({ sh }) {
      await sh(`seq 1 1000 >/root/numbers; systemd-run --quiet --unit people -p Type=forking -p Environment=TERM=screen tmux new-session -d -s people -x 80 -y 24 'top -d 0.3' \\; new-window -t people 'less /root/numbers' \\; new-window -t people bash
sleep 1; tmux list-windows -t people | wc -l`);
    },
    async afterResume({ sh }, round) {
      const screen = (window: number): Promise<string> => sh(`tmux capture-pane -p -t people:${window}`);
      const time = async (): Promise<string> => /top - ([\d:]+)/.exec(await screen(0))?.[1] ?? assert.fail(`top shows ${await screen(0)}`);
      const before = await time();
      await until('top to show another time', async () => await time() !== before, 5000);
      await sh('tmux send-keys -t people:1 Space');
      // A page has 23 lines.
      await until('less to show the next page', async () => (await screen(1)).startsWith(`${round * 23 + 1}\n`), 5000).catch(async () => assert.fail(`less shows ${await screen(1)}`));
      await sh(`tmux send-keys -t people:2 'v=\${v}${round % 10}; echo "is $v."' Enter`);
      const value = Array.from({ length: round }, (_, i) => String((i + 1) % 10)).join('');
      await until('the shell to answer', async () => (await screen(2)).includes(`is ${value}.`), 5000);
    },
  };
}
