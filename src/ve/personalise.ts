/** What a VE that came to life from another one's processes has of that one in its memory and its files, and only one may have. */
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { runInVe } from './run-in-ve.ts';

/**
 * What is the model's secret, or its name, in files and in programs that have read them. (Host name, hosts, resolver and machine-id are written by then.)
 * What two VEs share all the same, such as the states of random generators in programs, stands in docs/explanation/checkpoint.md.
 */
const PERSONALISE = `
if [ -d /etc/ssh ] && command -v ssh-keygen >/dev/null; then
  rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
  for type in ecdsa ed25519; do ssh-keygen -q -N '' -t $type -f /etc/ssh/ssh_host_$type\\_key; done
fi
if [ -d /run/systemd/system ]; then
  rm -f /var/lib/systemd/random-seed
  systemctl try-restart systemd-journald.service ssh.service sshd.service rsyslog.service systemd-networkd.service systemd-resolved.service 2>/dev/null
fi
exit 0
`;

/** Give a restored VE that is another one now what only it may have. */
export async function personalise(context: VeContext, ve: VeRecord): Promise<void> {
  await runInVe(context, ve, ['sh', '-c', PERSONALISE]);
}
