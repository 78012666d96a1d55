/** A preset with a field that takes memory without end, in the shapes in which programs do. */
import { lambda } from "postgraphile/grafast";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { extendSchema } from "postgraphile/utils";

/** What a thread holds on to until it ends. */
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
