/** A preset whose plugin writes a lot of output, in every possible way. */
import { lambda, type Step } from "postgraphile/grafast";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { extendSchema } from "postgraphile/utils";

/** As many characters as the log keeps of a text; each takes six bytes there. */
const long = "\u0001".repeat(4_096);

const ways: Record<string, () => void> = {
  log: () => console.log(long),
  stdout: () => process.stdout.write(`${long}\n`),
  stderr: () => process.stderr.write(`${long}\n`),
  warn: () => console.warn(long),
  warning: () => process.emitWarning(long),
  rejection: () => void Promise.reject(new Error(long)),
  /** More lines than the front accepts. */
  loop: () => {
    for (let round = 0; round < 5_000; round += 1) console.log(`round ${round}`);
  },
};

const fields = extendSchema({
  typeDefs: /* GraphQL */ `
    extend type Query {
      noise(way: String!): String
    }
  `,
  objects: {
    Query: {
      plans: {
        noise: (_query: Step, args) =>
          lambda(args.getRaw("way"), (way) => {
            ways[String(way)]?.();
            return String(way);
          }),
      },
    },
  },
});

const preset: GraphileConfig.Preset = { extends: [PostGraphileAmberPreset], plugins: [fields] };
export default preset;
