/** Packages of rows that share a template. */
export const SERVICES = ['cron', 'rsyslog', 'tmux'];
