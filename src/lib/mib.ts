/** Bytes for a person, in MiB: with a tenth where there are few. */
export function mib(bytes: number): string {
  return `${(bytes / (1 << 20)).toFixed(bytes < 10 << 20 ? 1 : 0)} MiB`;
}
