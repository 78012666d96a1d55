/** The `Accept` header, as grafserv 1 can read it: it answers 500 to an empty one, a comma at the end or a blank behind a weight. */
import { HostError } from "../kernel/errors.ts";

const mostCharacters = 1_000;
/** What most clients send. */
const plain = /^(?:\*\/\*|[a-z]+\/[a-z.+-]+)$/;
const parts = /"(?:[^"\\]|\\.)*"|[^",;\s]+|\S/g;
const token = "[!#$%&'+.^_`|~\\w-][!#$%&'*+.^_`|~\\w-]*";
const member = new RegExp(
  `^(?:\\*/\\*|${token}/(?:\\*|${token}))(?:;(?:q=(?:0(?:\\.\\d*)?|1(?:\\.0*)?)|(?!q=)${token}=(?:${token}|"[ -~\\t]*")))*$`,
);

/** The same list without blanks and empty members; null where it names nothing. Throws `BAD_REQUEST` for what is none. */
export function acceptedTypes(header: string): string | null {
  if (plain.test(header)) return header;
  if (header.length > mostCharacters) throw refusal();
  const members: string[] = [];
  let current = "";
  const end = (): void => {
    const text = current.endsWith(";") ? current.slice(0, -1) : current;
    current = "";
    if (text === "") return;
    if (!member.test(text)) throw refusal();
    members.push(text);
  };
  for (const [part] of header.matchAll(parts)) {
    if (part === ",") end();
    else if (part !== ";" || !(current === "" || current.endsWith(";"))) current += part;
  }
  end();
  return members.length === 0 ? null : members.join();
}

const refusal = (): HostError => new HostError("BAD_REQUEST", "the Accept header is no list of media types");
