/**
 * The `Accept` header in a form that grafserv 1 can read: it answers 500 to an empty one, to a trailing comma and to a blank after a
 * weight. Cells negotiate, since presets decide what is offered, so a library that negotiates (negotiator) would not replace this: it
 * drops what it cannot read, `q=2` or `application`, where clients get 400, and knows no list that names nothing.
 */
import { HostError } from "../shared/kernel/errors.ts";

const maxCharacters = 1_000;
/** What most clients send, for speed. */
const plain = /^(?:\*\/\*|[a-z]+\/[a-z.+-]+)$/;
const parts = /"(?:[^"\\]|\\.)*"|[^",;\s]+|\S/g;
const token = "[!#$%&'+.^_`|~\\w-][!#$%&'*+.^_`|~\\w-]*";
/** Exactly one alternative matches each character: if several did, matching could take exponential time. */
const quoted = '"(?:[ !#-\\[\\]-~\\t]|\\\\[ -~\\t])*"';
const type = new RegExp(`^(?:\\*/\\*|${token}/(?:\\*|${token}))$`);
const weight = /^q=(?:0(?:\.\d*)?|1(?:\.0*)?)$/;
const parameter = new RegExp(`^${token}=(?:${token}|${quoted})$`);

/** The list without blanks and empty members; null if it names nothing. Throws `BAD_REQUEST` if it is not a list of media types. */
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
