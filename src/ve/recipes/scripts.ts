/** What is done in the VE in which a template is made, as scripts for its own sh (dash, bash or busybox). What comes from a recipe comes as a parameter or on standard input. */

/** pid 1 of that VE has this one child, and no service runs: a build has nothing of a boot in it, and what a package would start is not started. */
export const KEEPER = ['/bin/sh', '-c', 'echo $$ >/run/veld-keeper; exec sleep 2147483647'];

/** Standard input: resolv.conf for the build. The template's own comes back at the end, link or file. */
export const PREPARE = `set -e
if [ -e /etc/resolv.conf ] || [ -L /etc/resolv.conf ]; then mv /etc/resolv.conf /etc/.veld-resolv.conf; fi
cat >/etc/resolv.conf
if [ -d /usr/sbin ] && [ ! -e /usr/sbin/policy-rc.d ]; then
  printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d
  chmod 755 /usr/sbin/policy-rc.d
  : >/run/veld-policy
fi
`;

/** $apt: options of apt. Parameters: packages. Nothing of them that templates of suites have not, either (src/templates/builder.ts). */
export const INSTALL = `set -e
command -v apt-get >/dev/null || { echo 'the template has no apt-get to install packages with' >&2; exit 1; }
mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial
apt-get $apt -q update
apt-get $apt -q -y --no-install-recommends -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io \\
  -o 'Dpkg::Options::=--path-exclude=/usr/share/man/*' -o 'Dpkg::Options::=--path-include=/usr/share/man/man[1-9]' -o 'Dpkg::Options::=--path-exclude=/usr/share/doc/*' \\
  -o 'Dpkg::Options::=--path-include=/usr/share/doc/*/copyright' -o 'Dpkg::Options::=--path-exclude=/usr/share/locale/*' install -- "$@"
`;

/** $1: name, $2: uid, $3: shell, $4: home, $5: 1 for one of a service, $6: groups with commas between. Standard input: lines of authorized_keys. */
export const ADD_USER = `set -e
name=$1 uid=$2 shell=$3 home=$4 system=$5 groups=$6
for group in $(echo "$groups" | tr , ' '); do groupadd -f "$group"; done
[ -n "$shell" ] || if [ "$system" = 1 ]; then shell=/usr/sbin/nologin; elif [ -x /bin/bash ]; then shell=/bin/bash; else shell=/bin/sh; fi
set -- --shell "$shell"
[ -z "$uid" ] || set -- "$@" --uid "$uid"
[ -z "$home" ] || set -- "$@" --home-dir "$home"
[ -z "$groups" ] || set -- "$@" --groups "$groups"
if [ "$system" = 1 ]; then set -- "$@" --system; else set -- "$@" --create-home; fi
useradd "$@" "$name"
keys=$(cat)
[ -n "$keys" ] || exit 0
home=$(getent passwd "$name" | cut -d: -f6)
umask 077
mkdir -p "$home/.ssh"
printf '%s\\n' "$keys" >"$home/.ssh/authorized_keys"
chown -R "$name:" "$home/.ssh"
`;

/** $1: path, $2: mode, $3: owner. Standard input: content. A link in its place goes, and what it leads to stays as it is. */
export const PUT_FILE = `set -e
[ ! -d "$1" ] || [ -L "$1" ] || { echo "$1 is a folder" >&2; exit 1; }
umask 022
mkdir -p "$(dirname "$1")"
rm -f "$1"
cat >"$1"
chown "$3" "$1"
chmod "$2" "$1"
`;

/** $1: enable or disable. The rest: services. */
export const SET_SERVICES = `set -e
what=$1; shift
if command -v systemctl >/dev/null; then systemctl "$what" -- "$@"
elif command -v update-rc.d >/dev/null; then for name in "$@"; do update-rc.d "$name" "$what"; done
else echo 'the template has neither systemctl nor update-rc.d' >&2; exit 1; fi
`;

/** Makes the self-signed certificate of Debian's ssl-cert in each VE: one that is in a template would be everybody's. */
const CERTIFICATE_UNIT = `[Unit]
Description=Make the self-signed certificate of this VE
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target
ConditionPathExists=!/etc/ssl/private/ssl-cert-snakeoil.key

[Service]
Type=oneshot
ExecStart=/usr/sbin/make-ssl-cert generate-default-snakeoil

[Install]
WantedBy=sysinit.target
`;

/**
 * The end: nothing runs that could still write, and what each VE must have of its own, what is of the build, and what another build would have otherwise is taken away.
 * (src/templates/guest-setup.ts does the same for suites, before.)
 */
export const FINISH = `set -e
keeper=$(cat /run/veld-keeper)
for folder in /proc/[0-9]*; do
  pid=\${folder#/proc/}
  case $pid in 1 | "$$" | "$keeper") ;; *) kill -9 "$pid" 2>/dev/null || true ;; esac
done
[ ! -e /run/veld-policy ] || rm -f /usr/sbin/policy-rc.d
rm -f /etc/resolv.conf
if [ -e /etc/.veld-resolv.conf ] || [ -L /etc/.veld-resolv.conf ]; then mv /etc/.veld-resolv.conf /etc/resolv.conf; fi
[ ! -e /etc/machine-id ] || : >/etc/machine-id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed /var/lib/systemd/credential.secret /etc/ssh/ssh_host_*
if [ -e /etc/ssl/private/ssl-cert-snakeoil.key ] && [ -x /usr/sbin/make-ssl-cert ] && command -v systemctl >/dev/null; then
  rm -f /etc/ssl/private/ssl-cert-snakeoil.key /etc/ssl/certs/ssl-cert-snakeoil.pem
  find /etc/ssl/certs -type l -lname 'ssl-cert-snakeoil.pem' -delete
  cat >/etc/systemd/system/veld-ssl-cert.service <<'UNIT'
${CERTIFICATE_UNIT}UNIT
  systemctl enable veld-ssl-cert.service
fi
[ ! -d /var/log ] || find /var/log -type f -exec rm -f {} +
rm -rf /var/log/journal/* /var/cache/apt /var/lib/apt/lists /var/cache/debconf/*-old /var/cache/ldconfig/* /var/lib/dpkg/*-old
rm -rf /var/lib/dhcp/*.leases /var/lib/NetworkManager/*.lease /var/lib/systemd/network/* /var/lib/logrotate/status
for folder in /tmp /var/tmp; do [ ! -d "$folder" ] || find "$folder" -mindepth 1 -maxdepth 1 -exec rm -rf {} +; done
rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid- /etc/.pwd.lock /root/.bash_history /root/.lesshst /root/.viminfo
`;

/** When the init of a VE has done its work, whatever kind it is: systemd has started all, or given up on some; sysvinit's script is through. Says what has failed. */
export const WAIT_UNTIL_UP = `
if command -v systemctl >/dev/null && [ -d /run/systemd/system ]; then
  word=$(systemctl is-system-running --wait)
  [ "$word" = running ] && exit 0
  echo "it is $word"
  systemctl --failed --plain --no-legend
  exit 3
fi
if command -v runlevel >/dev/null; then
  for _ in $(seq 300); do
    case $(runlevel 2>/dev/null) in *[2345]) pgrep -f '/etc/init.d/rc ' >/dev/null 2>&1 || exit 0 ;; esac
    sleep 0.2
  done
fi
exit 0
`;
