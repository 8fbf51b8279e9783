/** Stands in error messages before what a VE wrote last to its console: from here on it is the VE's text, which may hold secrets of its users. */
export const LAST_WORDS = 'last words on its console:';
