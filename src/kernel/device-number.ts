/** Numbers of devices. */

/**
 * As mountinfo and sysfs write them: `MAJOR:MINOR`.
 * @param dev Linux dev_t as stat gives it (glibc gnu_dev_major and gnu_dev_minor), below 2^32 for every file system and disk here
 */
export function formatDevice(dev: number): string {
  return `${(dev >>> 8) & 0xfff}:${(dev & 0xff) | ((dev >>> 12) & 0xfff00)}`;
}
