/** The last line before a log: what an error's text may have picked up on its way here. */

/** The user and password of any URL; the values of bearer and basic credentials; whatever looks like a JWT. */
const patterns: readonly (readonly [RegExp, string])[] = [
  // Up to the last @: an unencoded password may have any character, and too much hidden is better than too little.
  [/([a-z][a-z0-9+.-]*:\/\/)[^\s"'<>]*@/gi, "$1***@"],
  [/\b(bearer|basic)\s+[\w.~+/=-]+/gi, "$1 ***"],
  [/\beyJ[\w-]*\.[\w-]+(?:\.[\w-]*)?/g, "***"],
  [/\b(password|passwd|pwd|token|secret)=[^\s&;]+/gi, "$1=***"],
];

/** `text` without the credentials that can be told by their form. */
export function withoutSecrets(text: string): string {
  return patterns.reduce((clean, [pattern, replacement]) => clean.replace(pattern, replacement), text);
}
