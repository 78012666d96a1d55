/** The directive `@live`: a query whose result is sent anew when it changes. */
import { LRUCache } from "lru-cache";
import {
  DirectiveLocation,
  GraphQLDirective,
  GraphQLInt,
  type OperationDefinitionNode,
  parse,
  specifiedDirectives,
} from "postgraphile/graphql";

declare global {
  namespace GraphileConfig {
    interface Plugins {
      RowhouseLivePlugin: true;
    }
  }
}

const liveDirective = new GraphQLDirective({
  name: "live",
  description: "Sends the result to subscribers again whenever it changes.",
  locations: [DirectiveLocation.QUERY],
  args: {
    refresh: {
      type: GraphQLInt,
      description:
        "Seconds after which the query also runs without any change of a watched table, at least 1: for what else it depends on.",
    },
  },
});

/** Adds the directive to the schema, and has GraphiQL show what it does. */
export const livePlugin: GraphileConfig.Plugin = {
  name: "RowhouseLivePlugin",
  version: "1.0.0",
  schema: {
    hooks: {
      GraphQLSchema: (config) => ({
        ...config,
        directives: [...(config.directives ?? specifiedDirectives), liveDirective],
      }),
    },
  },
  grafserv: {
    middleware: {
      ruruHTML(next, event) {
        event.htmlParts.headerScripts += liveScript;
        return next();
      },
    },
  },
};

/**
 * GraphiQL (Ruru 2) subscribes to nothing but subscriptions. It shows one result after the other where the answer is in parts, though, and
 * takes whatever can be iterated for one: a list of parts at a time.
 */
const liveScript = `
<script type="module">
  const send = globalThis.fetch;
  globalThis.fetch = async (url, init) => {
    if (typeof init?.body !== "string" || !init.body.includes("@live")) return send(url, init);
    const headers = { ...init.headers, accept: "text/event-stream" };
    const response = await send(url, { ...init, headers });
    if (response.headers.get("content-type")?.startsWith("text/event-stream") !== true) return response;
    return {
      headers: response.headers,
      async *[Symbol.asyncIterator]() {
        let text = "";
        for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
          const events = (text + chunk).split("\\n\\n");
          text = events.pop();
          for (const each of events) {
            const result = /^event: next\\ndata: (.*)$/.exec(each)?.[1];
            if (result !== undefined) yield [{ json: true, body: JSON.parse(result) }];
          }
        }
      },
    };
  };
</script>`;

/** The longest time for which a timer can wait; a longer one ends at once. */
const maxSeconds = 2_147_483;

const kept = new LRUCache<string, { readonly seconds: number | null }>({ max: 500 });

/**
 * The seconds after which the live query in `body`, of a valid request, is to run again whatever happens, or 0; null if it is
 * not live.
 */
export function liveSeconds(body: string): number | null {
  const known = kept.get(body);
  if (known !== undefined) return known.seconds;
  const seconds = readSeconds(body);
  if (body.length < 10_000) kept.set(body, { seconds });
  return seconds;
}

function readSeconds(body: string): number | null {
  const request: unknown = JSON.parse(body);
  if (typeof request !== "object" || request === null || !("query" in request)) return null;
  if (typeof request.query !== "string" || !request.query.includes("@")) return null;
  const asked = "operationName" in request ? request.operationName : undefined;
  const operations = parse(request.query).definitions.filter(
    (each): each is OperationDefinitionNode => each.kind === "OperationDefinition",
  );
  const operation = operations.find(({ name }) => typeof asked !== "string" || name?.value === asked);
  const directive = operation?.directives?.find(({ name }) => name.value === "live");
  if (directive === undefined) return null;
  const value = directive.arguments?.find(({ name }) => name.value === "refresh")?.value;
  const given = value?.kind === "Variable" ? variable(request, value.name.value) : value;
  const number = typeof given === "number" ? given : given?.kind === "IntValue" ? Number(given.value) : 0;
  // At least one, unless there is none.
  return value === undefined || number === 0 ? 0 : Math.min(Math.max(1, number), maxSeconds);
}

function variable(request: object, name: string): number | undefined {
  if (!("variables" in request)) return undefined;
  const { variables } = request;
  if (typeof variables !== "object" || variables === null) return undefined;
  const value: unknown = Object.getOwnPropertyDescriptor(variables, name)?.value;
  return typeof value === "number" ? value : undefined;
}
