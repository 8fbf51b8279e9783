/**
 * Public keys of ssh, as lines of an authorized_keys file without options.
 *
 * Format: sshd(8), AUTHORIZED_KEYS FILE FORMAT; of the keys: RFC 4253, section 6.6, whose blob begins with the name of its type again.
 */

/** Types that OpenSSH takes. Certificates are none: they are trusted by their authority, not by a line. */
const TYPES = ['ssh-ed25519', 'ssh-rsa', 'ecdsa-sha2-nistp256', 'ecdsa-sha2-nistp384', 'ecdsa-sha2-nistp521', 'sk-ssh-ed25519@openssh.com', 'sk-ecdsa-sha2-nistp256@openssh.com'];

/** Characters of a line. An RSA key of 16384 bits has 2800. */
const LONGEST = 8192;

/** Whether a text begins as a public key does (and is not the name of a file). */
export function looksLikeKey(text: string): boolean {
  return /^(ssh|ecdsa|sk)-[a-z0-9@.-]+\s/.test(text);
}

/**
 * Look at a key.
 * @returns why it is none, in words that go on after the key's name; undefined when it is one
 */
export function keyFault(line: string): string | undefined {
  if (line.length > LONGEST) return `is longer than ${LONGEST} characters`;
  if (line.includes('PRIVATE KEY')) return 'is a private key, which should never leave its owner: give the public one (its file ends in .pub)';
  // oxlint-disable-next-line no-control-regex -- that they are not there is the question
  if (/[\u0000-\u001f\u007f]/.test(line)) return 'holds a line break or another control character';
  const [, type = '', base64 = ''] = /^(\S+) +(\S+)( .*)?$/.exec(line) ?? [];
  if (type === '') return 'is not of the form TYPE KEY COMMENT';
  if (!TYPES.includes(type)) return `is of the type ${JSON.stringify(type.slice(0, 60))}, which is none of ${TYPES.join(', ')}`;
  const blob = Buffer.from(base64, 'base64');
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64) || blob.length < 4 || blob.toString('base64').replace(/=+$/, '') !== base64.replace(/=+$/, '')) return 'is damaged: its middle part is not base64';
  const named = blob.subarray(4, 4 + blob.readUInt32BE(0)).toString('latin1');
  if (named !== type) return 'is damaged: its middle part is of another type';
  return blob.length < 4 + type.length + 4 + 32 ? 'is damaged: its end is missing' : undefined;
}
