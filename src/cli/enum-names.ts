/** Which values of an enum get a name in GraphQL: as `enumValue` of graphile-build-pg 5 makes them, where no preset does it in another way. */

/** What it has words for, where it is the whole value. */
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
