/** A template whose init is busybox: a few megabytes, nothing installed by dpkg. */

/** Runs the setup by the one program that the tree has. Of a tree that is only unpacked no later hook is run. */
export const BUSYBOX_HOOK = '--extract-hook=chroot "$1" /bin/busybox sh -ec "$VELD_SETUP"';

/** The whole setup script: the packages were only unpacked. */
export const BUSYBOX_SETUP = `
/bin/busybox mkdir -p /bin /sbin /usr/bin /usr/sbin /etc/init.d /root /tmp /var/tmp /var/log /var/lib /var/spool/cron/crontabs /home /srv /mnt /proc /sys /dev /run
/bin/busybox --install -s
chmod 1777 /tmp /var/tmp
chmod 700 /root
[ -e /var/run ] || ln -s /run /var/run
[ -e /etc/os-release ] || ln -s ../usr/lib/os-release /etc/os-release
printf 'root:x:0:0:root:/root:/bin/sh\\nwww-data:x:33:33:www-data:/var/www:/bin/false\\nnobody:x:65534:65534:nobody:/:/bin/false\\n' >/etc/passwd
printf 'root:x:0:\\ntty:x:5:\\nwww-data:x:33:\\nnogroup:x:65534:\\n' >/etc/group
printf 'root:*:19723:0:99999:7:::\\nwww-data:*:19723::::::\\nnobody:*:19723::::::\\n' >/etc/shadow
chmod 640 /etc/shadow
printf '127.0.0.1 localhost\\n::1 localhost ip6-localhost ip6-loopback\\n' >/etc/hosts
printf '# Veld mounts what a VE needs.\\n' >/etc/fstab
: >/etc/resolv.conf
cat >/etc/inittab <<'TAB'
# inittab of busybox: see https://git.busybox.net/busybox/plain/examples/inittab
::sysinit:/etc/init.d/rcS
# Kept in memory, for logread: this syslogd would let a file grow for ever.
::respawn:/sbin/syslogd -n -C256
::respawn:/usr/sbin/crond -f
# Not getty, which wants to control the terminal that pid 1 has; so this login has no job control.
console::askfirst:/bin/login
::shutdown:/etc/init.d/rcK
::restart:/sbin/init
TAB
# Each /etc/rc.d/NAME is a script that takes start and stop.
mkdir -p /etc/rc.d
cat >/etc/init.d/rcS <<'SCRIPT'
#!/bin/sh
for script in /etc/rc.d/*; do [ ! -x "$script" ] || "$script" start; done
SCRIPT
cat >/etc/init.d/rcK <<'SCRIPT'
#!/bin/sh
for script in /etc/rc.d/*; do [ ! -x "$script" ] || "$script" stop; done
SCRIPT
chmod 755 /etc/init.d/rcS /etc/init.d/rcK
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /usr/share/doc /usr/share/man /usr/share/locale /usr/share/info /usr/share/lintian
`;
