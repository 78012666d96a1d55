/** Every regular expression in the project's code, including those composed of parts. */
import {
  type CallExpression,
  type NewExpression,
  type Node,
  type Program,
  parseSync,
  Visitor,
} from "oxc-parser";
import { filesIn, type SourceFile } from "./source-files.ts";

export interface Pattern {
  /** Relative to the project's root. */
  readonly path: string;
  readonly line: number;
  /** Null if it is not composed of its module's constants alone, so that its text cannot be known. */
  readonly source: string | null;
  readonly flags: string;
}

/** String methods that turn their text argument into a pattern. */
const converting = new Set(["match", "matchAll", "search"]);

/** Every pattern in the code below `folders`, TypeScript and JavaScript. */
export function patternsIn(...folders: readonly string[]): Pattern[] {
  return folders
    .flatMap((folder) => filesIn(folder))
    .filter(({ path }) => /\.[jt]s$/.test(path) && !path.endsWith(".d.ts"))
    .flatMap((file) => patternsOf(file));
}

/** Every pattern in `text`, the content of `path`. */
export function patternsOf({ path, text }: SourceFile): Pattern[] {
  const { program, errors } = parseSync(path, text);
  if (errors.length > 0) throw new Error(`${path} cannot be parsed: ${errors[0]?.message}`);
  const constants = constantsOf(program);
  const patterns: Pattern[] = [];
  const add = (at: number, source: string | null, flags = ""): void => {
    patterns.push({ path, line: text.slice(0, at).split("\n").length, source, flags });
  };
  const made = ({ callee, arguments: given, start }: NewExpression | CallExpression): void => {
    if (callee.type === "Identifier" && callee.name === "RegExp") {
      const [source = null, flags = ""] = given.map((each) => textOf(each, constants));
      add(start, source, flags ?? "");
    }
  };
  new Visitor({
    Literal(node) {
      if ("regex" in node) add(node.start, node.regex.pattern, node.regex.flags);
    },
    NewExpression: made,
    CallExpression(node) {
      made(node);
      const { callee, arguments: given } = node;
      if (callee.type !== "MemberExpression" || callee.property.type !== "Identifier") return;
      if (!converting.has(callee.property.name)) return;
      const source = given[0] === undefined ? null : textOf(given[0], constants);
      if (source !== null) add(node.start, source);
    },
  }).visit(program);
  return patterns;
}

type Constants = ReadonlyMap<string, Node>;

/** The initial values of the module's constants. */
function constantsOf(program: Program): Constants {
  const constants = new Map<string, Node>();
  for (const statement of program.body) {
    if (statement.type !== "VariableDeclaration" || statement.kind !== "const") continue;
    for (const { id, init } of statement.declarations) {
      if (id.type === "Identifier" && init) constants.set(id.name, init);
    }
  }
  return constants;
}

/** The text of `node` if it is constant: a literal, a concatenation of such, or the source of a pattern. */
function textOf(node: Node, constants: Constants): string | null {
  switch (node.type) {
    case "Literal":
      return typeof node.value === "string" ? node.value : null;
    case "Identifier": {
      const constant = constants.get(node.name);
      return constant === undefined ? null : textOf(constant, constants);
    }
    case "TemplateLiteral": {
      const parts = node.expressions.map((each) => textOf(each, constants));
      return joined(
        node.quasis.flatMap(({ value }, at) => [value.cooked, parts[at] ?? (at < parts.length ? null : "")]),
        "",
      );
    }
    case "BinaryExpression":
      return joined([textOf(node.left, constants), textOf(node.right, constants)], "");
    case "MemberExpression":
      return node.property.type === "Identifier" && node.property.name === "source"
        ? sourceOf(node.object, constants)
        : null;
    case "CallExpression":
      return joinedList(node, constants);
    default:
      return null;
  }
}

function joined(parts: readonly (string | null)[], separator: string): string | null {
  const texts = parts.filter((part) => part !== null);
  return texts.length === parts.length ? texts.join(separator) : null;
}

function sourceOf(node: Node, constants: Constants): string | null {
  if (node.type === "Literal" && "regex" in node) return node.regex.pattern;
  const constant = node.type === "Identifier" ? constants.get(node.name) : undefined;
  return constant === undefined ? null : sourceOf(constant, constants);
}

/** `["a", "b"].join("|")` */
function joinedList({ callee, arguments: given }: CallExpression, constants: Constants): string | null {
  if (
    callee.type !== "MemberExpression" ||
    callee.object.type !== "ArrayExpression" ||
    given[0] === undefined
  )
    return null;
  const separator = textOf(given[0], constants);
  const isJoin = callee.property.type === "Identifier" && callee.property.name === "join";
  const parts = callee.object.elements.map((each) => (each === null ? null : textOf(each, constants)));
  return isJoin && separator !== null ? joined(parts, separator) : null;
}
