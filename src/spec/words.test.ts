import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { formatWords, splitWords } from './words.ts';

test('words are split as a shell splits them', () => {
  const cases: [string, string[]][] = [
    ['', []], ['  a  b ', ['a', 'b']], ["'a b' c", ['a b', 'c']], ["a'b'\"c\"d", ['abcd']], ["''", ['']], ['a\\ b', ['a b']],
    ['"a \\" \\\\ \\x $y"', ['a " \\ \\x $y']], ["$'a\\n\\t\\\\\\''", ["a\n\t\\'"]], ['$a $', ['$a', '$']], ["it\\'s", ["it's"]],
  ];
  for (const [text, words] of cases) assert.deepEqual(splitWords(text), words, text);
});

test('what is not closed, or no escape, is refused', () => {
  for (const text of ["'a", '"a', "$'a", 'a\\', '"a\\', "$'\\x41'"]) assert.equal(splitWords(text), undefined, text);
});

test('what is shown is read again, whatever is in it', () => {
  fc.assert(fc.property(fc.array(fc.string({ unit: 'grapheme' })), (words) => {
    assert.deepEqual(splitWords(formatWords(words)), words);
  }), { numRuns: 500 });
  assert.equal(formatWords(['none']), "'none'");
  assert.equal(formatWords(['sh', '-c', 'a\nb']), "sh -c $'a\\nb'");
});
