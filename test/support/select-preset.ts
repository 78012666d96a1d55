/** A preset whose plugin makes SQL in ways that PostGraphile's own fields do not. */
import { AsyncLocalStorage } from "node:async_hooks";
import { pgClassExpression, pgInsertSingle, pgUpdateSingle, TYPES } from "postgraphile/@dataplan/pg";
import { connection, constant, context, lambda } from "postgraphile/grafast";
import { $$toSQL, type SQL, sql } from "postgraphile/pg-sql2";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { extendSchema } from "postgraphile/utils";

interface Builder {
  readonly alias: SQL;
  where(condition: SQL): void;
}

interface Setting {
  set(name: string, value: unknown): void;
}

/** The role of the running request, where a careless plugin's functions without arguments find it. */
const running = new AsyncLocalStorage<string>();

const roleIn = ({ pgSettings }: { pgSettings: Record<string, string | undefined> | null }): string =>
  String(pgSettings?.["role"]);

const fields = extendSchema((build) => {
  const { person, pet } = build.input.pgRegistry.pgResources;
  if (person === undefined || pet === undefined) throw new Error("no tables");
  return {
    typeDefs: /* GraphQL */ `
      extend type Person {
        petsApart(first: Int): [Pet]
      }
      extend type Query {
        fixed(first: Int): [Person]
        second: [Person]
        told(name: String): [Person]
        taken(name: String): [Person]
        own: [Person]
        ordered: [Person]
        cast: PersonConnection
        joined: [Person]
        ranked: [Person]
        noted: String
      }
      extend type Mutation {
        stamped(name: String): Person
        marked(id: Int!): String
      }
    `,
    objects: {
      Person: {
        plans: {
          /** A separate statement for all parent rows. */
          petsApart($person, fieldArgs) {
            const $pets = pet.find({ owner_id: $person.get("id") });
            $pets.setInliningForbidden();
            $pets.setFirst(fieldArgs.getRaw("first"));
            return $pets;
          },
        },
      },
      Query: {
        plans: {
          /** A value fixed in the plan. */
          fixed(_query, fieldArgs) {
            const $people = person.find();
            $people.where(sql`${$people.alias}.id > ${sql.value(1)}`);
            $people.setFirst(fieldArgs.getRaw("first"));
            return $people;
          },
          /** A parameter that is the request's role. */
          second() {
            const $people = person.find();
            const $name = lambda(context(), (found) => `${roleIn(found)} 2`);
            $people.where(sql`${$people.alias}.name = ${$people.placeholder($name, TYPES.text)}`);
            return $people;
          },
          /** One parameter in two places. */
          told(_query, fieldArgs) {
            const $people = person.find();
            const name = $people.placeholder(fieldArgs.getRaw("name"), TYPES.text);
            $people.where(sql`${name} is null or ${$people.alias}.name = ${name}`);
            return $people;
          },
          /** A parameter that can be encoded only once. */
          taken(_query, fieldArgs) {
            const $people = person.find();
            const $list = lambda(fieldArgs.getRaw("name"), (name) => [name]);
            const toPg = (list: unknown): string => {
              if (!Array.isArray(list) || list.length === 0) throw new Error("taken before");
              return String(list.pop());
            };
            const name = $people.placeholder($list, { ...TYPES.text, toPg });
            $people.where(sql`${$people.alias}.name = ${name}`);
            return $people;
          },
          /** A condition made for the request, with its role in the SQL. */
          own() {
            const $people = person.find();
            $people.apply(
              lambda(context(), (found) => (builder: Builder) => {
                builder.where(sql`${builder.alias}.name like ${sql.literal(`${roleIn(found)} %`)}`);
              }),
            );
            return $people;
          },
          /** An order that a function in the plan computes for each request, from ambient state. */
          ordered() {
            const $people = person.find();
            $people.orderBy({
              attribute: "name",
              direction: "ASC",
              callback: (name, codec) => [
                sql`${name} = ${sql.literal(running.getStore() === "ada" ? "ada 4" : "bob 2")}`,
                codec,
                false,
              ],
            });
            return $people;
          },
          /** An order whose values are read by a codec's SQL, which is computed for each request in the same way. */
          cast() {
            const $people = person.find();
            const castFromPg = (name: SQL): SQL =>
              sql`${name} || ${sql.literal(running.getStore() === "ada" ? " for ada" : "")}`;
            const fragment = sql`${$people.alias}.name`;
            $people.orderBy({ fragment, codec: { ...TYPES.text, castFromPg }, direction: "ASC" });
            $people.setOrderIsUnique();
            return connection($people);
          },
          /**
           * A join with an object that is converted to SQL anew for each request. For one tenant, the SQL is the same as outside
           * any request.
           */
          joined() {
            const $people = person.find();
            const alias = sql.identifier(Symbol("own"));
            const from = {
              [$$toSQL]: () => sql`(select ${sql.literal(running.getStore() ?? "bob")}::text as "name")`,
            };
            const condition = sql`${$people.alias}.name like ${alias}.name || ' 1'`;
            $people.join({ type: "inner", from: from as unknown as SQL, alias, conditions: [condition] });
            return $people;
          },
          /** An order that is converted to SQL in the same way. */
          ranked() {
            const $people = person.find();
            const fragment = {
              [$$toSQL]: () =>
                sql`${$people.alias}.name <> ${sql.literal(`${running.getStore() ?? "bob"} 3`)}`,
            };
            $people.orderBy({ fragment: fragment as unknown as SQL, codec: TYPES.boolean, direction: "ASC" });
            return $people;
          },
          /** Metadata that a plan sets on a select. */
          noted() {
            const $people = person.find();
            $people.setMeta("note", "told");
            return lambda([$people.getMeta("note"), $people.items()], ([note]) => String(note));
          },
        },
      },
      Mutation: {
        plans: {
          /** Columns set by the plan, one of which may be undefined, and one that a function sets for the request. */
          stamped(_mutation, fieldArgs) {
            const $name = lambda(fieldArgs.getRaw("name"), (name) => name ?? "nameless");
            const $mood = lambda(fieldArgs.getRaw("name"), (name) => (name === null ? undefined : "sad"));
            const $set = lambda(context(), (found) => (builder: Setting) => {
              builder.set("email", `${roleIn(found)}@role`);
            });
            const $insert = pgInsertSingle(person, { name: $name, mood: $mood });
            $insert.apply($set);
            return $insert;
          },
          /** A constant that is part of the result. */
          marked(_mutation, fieldArgs) {
            const $update = pgUpdateSingle(
              person,
              { id: fieldArgs.getRaw("id") },
              { name: constant("marked") },
            );
            return pgClassExpression($update, TYPES.text)`${sql.value("of the plan")}`;
          },
        },
      },
    },
  };
});

const asRole: GraphileConfig.Plugin = {
  name: "RunningPlugin",
  version: "1.0.0",
  grafast: {
    middleware: {
      execute(next, { args }) {
        const found = args.contextValue;
        const settings = typeof found === "object" && found !== null && "pgSettings" in found ? found : null;
        return running.run(String(Reflect.get(Object(settings?.pgSettings), "role")), next);
      },
    },
  },
};

const preset: GraphileConfig.Preset = {
  extends: [PostGraphileAmberPreset],
  plugins: [fields, asRole],
};
export default preset;
