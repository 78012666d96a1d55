/**
 * Which enum values have a valid GraphQL name, by the rules of `enumValue` in graphile-build-pg 5, unless a
 * preset changes them.
 */

/** Values that it replaces by words if they are the whole value. */
const symbols = new Set(
  "> >= = != <> <= < ~~ ~~* !~~ !~~* ~ ~* !~ !~* % + - / \\ _ # £ $ & @ ' \" ` : ; ! ? , . ^ | [ ] ( ) { }".split(
    " ",
  ),
);
const name = /^[_A-Za-z][_0-9A-Za-z]*$/;
const reserved = new Set(["true", "false", "null"]);

export function isNameable(label: string): boolean {
  if (label === "" || symbols.has(label)) return true;
  const spelled = label.replaceAll("*", "_ASTERISK_");
  const coerced = /^\d/.test(spelled) ? `_${spelled}` : spelled;
  return name.test(coerced) && !reserved.has(coerced);
}
