/** Links whose other end is a descriptor of this process (tun(4) of the kernel's documentation, Documentation/networking/tuntap.rst). They go with it. */
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { checked, native } from './native.ts';

/** Longest packet, in bytes. */
const PACKET = 65_536;

export interface Tun {
  /** Send back into this network namespace whatever has been sent to the link, as if it came in by it. @returns packets */
  giveBack(): number;
  close(): void;
}

/** Make a link for IP packets, which keeps those that are sent to it until they are taken. @param name at most 15 characters, of no link that is there */
export function openTun(name: string): Tun {
  const TUNSETIFF = 0x400454ca, IFF_TUN = 1, IFF_NO_PI = 0x1000, IFF_TUN_EXCL = 0x8000;
  const fd = openSync('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
  try {
    // Safe: a struct ifreq has 40 bytes; the name of at most 15 ends in a zero byte, the flags are 16 bits behind its 16.
    const request = new DataView(new ArrayBuffer(40));
    new Uint8Array(request.buffer).set(Buffer.from(name).subarray(0, 15));
    request.setUint16(16, IFF_TUN | IFF_NO_PI | IFF_TUN_EXCL, true);
    checked('ioctl', native().c.ioctl(fd, TUNSETIFF, request.buffer), name);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  const packet = Buffer.alloc(PACKET);
  return {
    giveBack() {
      for (let count = 0; ; count++) {
        try {
          const length = readSync(fd, packet);
          writeSync(fd, packet, 0, length);
        } catch (error) {
          const { code } = error as NodeJS.ErrnoException;
          if (code === 'EAGAIN') return count;
          // EINVAL: nothing that can come in (a version of IP that there is not); EIO: the link is down.
          if (code !== 'EINVAL' && code !== 'EIO') throw error;
          if (code === 'EIO') return count;
        }
      }
    },
    close: () => closeSync(fd),
  };
}
