/**
 * The demo's front page: its tenants, and how to reach each. Only the demo has one, because a host does not
 * reveal whom it serves.
 */
import { createHash } from "node:crypto";
import type { Answer } from "../shared/protocol/messages.ts";
import type { RequestFacts } from "../tenants/router.ts";
import { type DemoTenant, demoPassword } from "./seed.ts";

/**
 * Returns the page for a request that addresses this machine by a loopback name and names no tenant; null for
 * every other.
 */
export type Welcome = (facts: RequestFacts) => Answer | null;

interface WelcomeOptions {
  readonly tenants: readonly Pick<DemoTenant, "id" | "hosts">[];
  /** Whether browsers get GraphiQL. */
  readonly graphiql: boolean;
}

/** Loopback names only, so that an external name pointed at this machine (DNS rebinding) gets no page. */
const loopback = new Set(["127.0.0.1", "localhost", "[::1]"]);

/** With `--tenants 9999` a complete list would be no help. */
const maxListed = 30;

const about: Readonly<Record<string, string>> = {
  acme: "shares an instance with every shop of this shape",
  hooli: "one more column: its own shape, and so its own instance",
  stark: "a table named like one in the system catalogue: served by a dedicated instance",
};

export function welcomePage({ tenants, graphiql }: WelcomeOptions): Welcome {
  return ({ method, path, host, header }) => {
    if (method !== "GET" || path !== "/" || host === null || header("x-tenant") !== null) return null;
    const url = URL.parse(`http://${host}`);
    if (url === null || !loopback.has(url.hostname)) return null;
    const port = url.port === "" ? "80" : url.port;
    return {
      kind: "text",
      status: 200,
      headers: {
        "content-type": "text/html; charset=utf-8",
        "cache-control": "no-store",
        "content-security-policy": policy,
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
      },
      body: page(tenants, { port, graphiql }),
    };
  };
}

const style = `
:root{color-scheme:light dark;--line:#d4d8e0;--soft:#f4f5f8;--quiet:#59616f;--link:#0b57d0}
@media (prefers-color-scheme:dark){:root{--line:#3a4049;--soft:#22262c;--quiet:#a7afbd;--link:#8ab4f8}}
body{font:1rem/1.5 system-ui,sans-serif;max-width:46rem;margin:0 auto;padding:2.5rem 1.25rem}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 .25rem}
h2{font-size:1.1rem;margin:2rem 0 .5rem}
p{margin:.5rem 0}
.quiet,td small{color:var(--quiet)}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.55rem .75rem .55rem 0;border-bottom:1px solid var(--line)}
thead th{font-size:.85rem;color:var(--quiet);font-weight:600}
td small{display:block}
td code{white-space:nowrap}
a{color:var(--link)}
code,pre{font:.875rem/1.5 ui-monospace,monospace}
pre{background:var(--soft);border:1px solid var(--line);border-radius:.5rem;padding:.75rem 1rem;overflow-x:auto}
:focus-visible{outline:2px solid var(--link);outline-offset:2px}
`;

/** The page loads no resources, runs no scripts and submits no forms. */
const policy = [
  "default-src 'none'",
  `style-src 'sha256-${createHash("sha256").update(style).digest("base64")}'`,
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/**
 * Renders the page. Nothing needs escaping: ids, hosts and ports consist of letters, digits, dots, hyphens
 * and underscores.
 */
function page(tenants: WelcomeOptions["tenants"], around: { port: string; graphiql: boolean }): string {
  const { port, graphiql } = around;
  const listed = tenants.slice(0, maxListed);
  const more = tenants.length - listed.length;
  const [first] = listed;
  const id = first?.id ?? "acme";
  const rows = listed.map((tenant) => row(tenant, around)).join("\n");
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>Rowhouse: the demo's tenants</title>
<style>${style}</style>
</head>
<body>
<main>
<h1>Rowhouse is running its demo</h1>
<p class="quiet">${tenants.length} small shops, each with its own PostgreSQL schema, roles and rows. Every request names its shop, by host name or by the header <code>x-tenant</code>.</p>
<h2 id="tenants">Tenants</h2>
<div class="wide" role="region" aria-labelledby="tenants" tabindex="0">
<table>
<thead><tr><th scope="col">Tenant</th><th scope="col">${graphiql ? "In a browser (GraphiQL)" : "By host name"}</th><th scope="col">By header</th></tr></thead>
<tbody>
${rows}
</tbody>
</table>
</div>
${more > 0 ? `<p class="quiet">And ${more} more, up to <code>${tenants.at(-1)?.id ?? ""}</code>, in the same way.</p>\n` : ""}<p class="quiet">Chrome, Edge and Firefox resolve every name under <code>.localhost</code> to this machine. If your browser does not, use the header.</p>
<h2>From a terminal</h2>
<pre tabindex="0"><code>curl http://127.0.0.1:${port}/graphql -H 'x-tenant: ${id}' \\
  -H 'content-type: application/json' \\
  -d '{"query":"{ allProducts { nodes { name unitPrice } } }"}'</code></pre>
<h2>As a customer</h2>
<p>Sign in with <code>mutation { login(input: { email: "grace@${id}.example", password: "${demoPassword}" }) { result } }</code>, and send the token as <code>Authorization: Bearer …</code>.</p>
</main>
</body>
</html>
`;
}

function row(
  { id, hosts }: WelcomeOptions["tenants"][number],
  around: { port: string; graphiql: boolean },
): string {
  const { port, graphiql } = around;
  const [host = `${id}.localhost`] = hosts;
  const place = port === "80" ? host : `${host}:${port}`;
  const note = about[id] === undefined ? "" : `<small>${about[id]}</small>`;
  const way = graphiql ? `<a href="http://${place}/">${place}</a>` : `<code>http://${place}/graphql</code>`;
  return `<tr><th scope="row">${id}</th><td>${way}${note}</td><td><code>x-tenant: ${id}</code></td></tr>`;
}
