/** The `Accept` header, as grafserv 1 can read it: it answers 500 to an empty one, a comma at the end or a blank behind a weight. */
import { HostError } from "../shared/kernel/errors.ts";

const maxCharacters = 1_000;
/** What most clients send. */
const plain = /^(?:\*\/\*|[a-z]+\/[a-z.+-]+)$/;
const parts = /"(?:[^"\\]|\\.)*"|[^",;\s]+|\S/g;
const token = "[!#$%&'+.^_`|~\\w-][!#$%&'*+.^_`|~\\w-]*";
/** One alternative for each character: what could be read in two ways takes as long as there are ways. */
const quoted = '"(?:[ !#-\\[\\]-~\\t]|\\\\[ -~\\t])*"';
const type = new RegExp(`^(?:\\*/\\*|${token}/(?:\\*|${token}))$`);
const weight = /^q=(?:0(?:\.\d*)?|1(?:\.0*)?)$/;
const parameter = new RegExp(`^${token}=(?:${token}|${quoted})$`);

/** The same list without blanks and empty members; null where it names nothing. Throws `BAD_REQUEST` for what is none. */
export function acceptedTypes(header: string): string | null {
  if (plain.test(header)) return header;
  if (header.length > maxCharacters) throw refusal();
  const members: string[] = [];
  let pieces = [""];
  const end = (): void => {
    const [range = "", ...parameters] = pieces;
    pieces = [""];
    if (parameters.at(-1) === "") parameters.pop();
    if (range === "" && parameters.length === 0) return;
    if (!type.test(range) || !parameters.every(isParameter)) throw refusal();
    members.push([range, ...parameters].join(";"));
  };
  for (const [part] of header.matchAll(parts)) {
    const last = pieces.length - 1;
    if (part === ",") end();
    else if (part !== ";") pieces[last] += part;
    else if (pieces[last] !== "") pieces.push("");
  }
  end();
  return members.length === 0 ? null : members.join();
}

const isParameter = (text: string): boolean => (text.startsWith("q=") ? weight : parameter).test(text);

const refusal = (): HostError =>
  new HostError("BAD_REQUEST", "The Accept header is not a list of media types.");
