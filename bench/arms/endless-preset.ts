/** A preset with a field that allocates memory without end, in the ways in which programs do. */
import { lambda } from "postgraphile/grafast";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { extendSchema } from "postgraphile/utils";

/** Keeps allocations alive until the thread ends. */
const held: unknown[] = [];

const shapes: Readonly<Record<string, () => never>> = {
  map() {
    const map = new Map<number, object>();
    held.push(map);
    for (let key = 0; ; key += 1) map.set(key, { key });
  },
  array() {
    const array: object[] = [];
    held.push(array);
    for (let key = 0; ; key += 1) array.push({ key, text: `number ${key}` });
  },
  buffers() {
    for (;;) held.push(Buffer.alloc(1024 * 1024, 1));
  },
  strings() {
    for (let key = 0; ; key += 1) held.push(JSON.stringify("x".repeat(8 * 1024 * 1024)) + key);
  },
  // From here on a single call of V8 takes more than a cell's budget, and cannot be interrupted.
  string() {
    for (;;) {
      // Above twice this length V8 throws instead.
      for (let text = "x".repeat(1024 * 1024); text.length <= 2 ** 27; text += text) {
        // Reading a character makes V8 flatten the concatenated string.
        text.charCodeAt(text.length - 1);
        held.push(text);
      }
    }
  },
  filled() {
    for (;;) held.push(new Array<number>(32_000_000).fill(0));
  },
  json() {
    const text = `[${"1,".repeat(32 * 1024 * 1024)}1]`;
    for (;;) held.push(JSON.parse(text));
  },
};

const preset: GraphileConfig.Preset = {
  extends: [PostGraphileAmberPreset],
  plugins: [
    extendSchema({
      typeDefs: /* GraphQL */ `
        extend type Query {
          endless(shape: String!): Int
        }
      `,
      objects: {
        Query: {
          plans: {
            endless: (_parent, fieldArgs) =>
              lambda(fieldArgs.getRaw("shape"), (shape) => shapes[String(shape)]?.() ?? 0),
          },
        },
      },
    }),
  ],
};

export default preset;
