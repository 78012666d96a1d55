/** What a misspelt word may have been meant for. */
import { distance } from "fastest-levenshtein";

/** Of a word of ten letters four may be wrong, of four letters two, which a pair in the wrong order is; longer words are nobody's slip. */
const longest = 64;
const maxWrong = ({ length }: string): number => (length < 4 ? 1 : Math.max(2, Math.floor(length * 0.4)));

/** `; did you mean a?`, or nothing. `known` are the words that there are. */
export function didYouMean(word: string, known: Iterable<string>): string {
  if (word.length > longest) return "";
  let best: { readonly name: string; readonly wrong: number } | undefined;
  for (const name of known) {
    // Of a path (`cells.heapMb`) the last part is what was written.
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
