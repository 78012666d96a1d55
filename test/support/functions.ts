/** Every function in the project's code, with its size. */
import { type ParamPattern, parseSync, Visitor } from "oxc-parser";
import type { SourceFile } from "./source-files.ts";

export interface SizedFunction {
  /** Relative to the project's root. */
  readonly path: string;
  /** The name it is declared with, assigned to or held under; `<anonymous>` if there is none. */
  readonly name: string;
  /** Its first line. */
  readonly line: number;
  /** The number of its lines, including signature and inner comments. */
  readonly lines: number;
  /** The number of parameters that callers pass: `this` does not count, and `...rest` is one. */
  readonly parameters: number;
}

interface Positioned {
  readonly start: number;
  readonly end: number;
}

/** Every function in `text`, the content of `path`: declarations, methods, accessors, arrows and expressions, nested ones included. */
export function functionsOf({ path, text }: SourceFile): SizedFunction[] {
  const { program, errors } = parseSync(path, text);
  if (errors.length > 0) throw new Error(`${path} cannot be parsed: ${errors[0]?.message}`);
  const lineOf = (at: number): number => text.slice(0, at).split("\n").length;
  const functions: SizedFunction[] = [];
  /** The name of the holder of a function that is a value, by the function's offset. */
  const names = new Map<number, string>();
  const hold = (name: Positioned | null, value: Positioned | null): void => {
    if (name !== null && value !== null) names.set(value.start, text.slice(name.start, name.end));
  };
  const add = (node: Positioned, id: Positioned | null, params: readonly ParamPattern[]): void => {
    const passed = params.filter((param) => param.type !== "Identifier" || param.name !== "this");
    const own = id === null ? undefined : text.slice(id.start, id.end);
    functions.push({
      path,
      name: own ?? names.get(node.start) ?? "<anonymous>",
      line: lineOf(node.start),
      lines: lineOf(node.end) - lineOf(node.start) + 1,
      parameters: passed.length,
    });
  };
  new Visitor({
    // The identifier of a variable includes its type annotation.
    VariableDeclarator: ({ id, init }) =>
      hold({ start: id.start, end: id.start + (id.type === "Identifier" ? id.name.length : 0) }, init),
    AssignmentExpression: ({ left, right }) => hold(left, right),
    Property: ({ key, value }) => hold(key, value),
    MethodDefinition: ({ key, value }) => hold(key, value),
    PropertyDefinition: ({ key, value }) => hold(key, value),
    FunctionDeclaration: (node) => add(node, node.id, node.params),
    FunctionExpression: (node) => add(node, node.id, node.params),
    ArrowFunctionExpression: (node) => add(node, null, node.params),
  }).visit(program);
  return functions;
}
