/** Suggestions for misspelled words. */
import { distance } from "fastest-levenshtein";

/**
 * Maximum edits: four in a word of ten letters, two in one of four (a swapped pair counts as two). Words
 * longer than `longest` are not typos.
 */
const longest = 64;
const maxWrong = ({ length }: string): number => (length < 4 ? 1 : Math.max(2, Math.floor(length * 0.4)));

/** Returns `; did you mean a?`, or an empty string. `known` are the valid words. */
export function didYouMean(word: string, known: Iterable<string>): string {
  if (word.length > longest) return "";
  let best: { readonly name: string; readonly wrong: number } | undefined;
  for (const name of known) {
    // For a path (`cells.heapMb`) only the last part was written.
    const last = name.slice(name.lastIndexOf(".") + 1);
    const wrong = distance(word.toLowerCase(), last.toLowerCase());
    if (
      wrong <= maxWrong(word) &&
      wrong < Math.min(word.length, last.length) &&
      (best === undefined || wrong < best.wrong)
    ) {
      best = { name, wrong };
    }
  }
  return best === undefined ? "" : `; did you mean ${best.name}?`;
}
