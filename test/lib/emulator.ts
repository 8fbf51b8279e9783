/** What a machine says when QEMU itself gave up: the file is run once more then, for that is no news of what runs in it. */
export const EMULATOR_BROKE = 'QEMU broke down';
