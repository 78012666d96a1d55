/** Operations on a tenant of `worker-tenant.ts`, each with variables to run it with. */

export interface SelectCase {
  readonly query: string;
  readonly variables: readonly Readonly<Record<string, unknown>>[];
}

const pages = [
  {},
  { first: 2 },
  { first: 3 },
  { last: 2 },
  { first: 4, last: 2 },
  { first: 2, offset: 1 },
  { offset: 3 },
  { first: null, offset: null },
  { first: 100 },
] as const;

/** Operations whose SQL depends on nothing in a request but its pages. */
export const keptCases: readonly SelectCase[] = [
  {
    query:
      "query ($id: Int!) { personByRowId(rowId: $id) { rowId name mood email home { town } tags extra } }",
    variables: [{ id: 1 }, { id: 2 }, { id: 5 }, { id: 99 }],
  },
  {
    query: `query ($a: Int!, $b: Int!) {
      one: personByRowId(rowId: $a) { name } two: personByRowId(rowId: $b) { ...more } three: petByRowId(rowId: $b) { name } }
      fragment more on Person { name shout age { start { value } end { value } } }`,
    variables: [
      { a: 1, b: 2 },
      { a: 2, b: 1 },
      { a: 3, b: 3 },
    ],
  },
  { query: "{ personByRowId(rowId: 3) { id rowId name } }", variables: [{}] },
  {
    query: `query ($first: Int, $last: Int, $offset: Int) { allPeople(first: $first, last: $last, offset: $offset) {
      nodes { rowId name } edges { cursor } totalCount pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }`,
    variables: pages,
  },
  {
    query: `query ($first: Int, $offset: Int) { allPeople(orderBy: NAME_DESC) { nodes { name
      petsByOwnerId(first: $first, offset: $offset) { nodes { name personByOwnerId { name mood } } pageInfo { hasNextPage } } } } }`,
    variables: [{}, { first: 1 }, { first: 2 }, { first: 2, offset: 1 }, { first: null }, { offset: 2 }],
  },
  {
    query: `query ($last: Int) { allPeople { nodes { name
      petsByOwnerId(last: $last, orderBy: NAME_DESC) { edges { cursor node { name } } totalCount } } } }`,
    variables: [{}, { last: 1 }, { last: 2 }, { last: null }],
  },
  {
    query: `{ allPets(first: 3) { nodes { name personByOwnerId { name petsByOwnerId { nodes { name personByOwnerId {
      shout } } } } } } }`,
    variables: [{}],
  },
  {
    query: `query ($more: Boolean!) { allPets(condition: { ownerId: 1 }, orderBy: [NAME_ASC, ROW_ID_DESC]) {
      nodes { name personByOwnerId @include(if: $more) { name } } } }`,
    variables: [{ more: true }, { more: false }],
  },
  {
    query: "query ($first: Int) { allPeople { nodes { name petsApart(first: $first) { name } } } }",
    variables: [{}, { first: 1 }, { first: 2 }],
  },
  {
    query: "query ($first: Int) { fixed(first: $first) { rowId petsApart { rowId } } }",
    variables: [{}, { first: 1 }, { first: 2 }, { first: 3 }],
  },
  { query: "{ noted }", variables: [{}] },
  { query: "{ second { rowId name } }", variables: [{}] },
  {
    query: "query ($name: String) { told(name: $name) { rowId name } }",
    variables: [{}, { name: null }, { name: "ada 2" }, { name: "bob 2" }, { name: "' or true --" }],
  },
];

/** Operations whose SQL is made by functions that are called for the request, or that begin at a cursor. */
export const otherCases: readonly SelectCase[] = [
  {
    query: "query ($condition: PersonCondition) { allPeople(condition: $condition) { nodes { name } } }",
    variables: [
      {},
      { condition: null },
      { condition: {} },
      { condition: { name: "ada 1" } },
      { condition: { name: "bob 1" } },
      { condition: { mood: "happy" } },
      { condition: { mood: null, name: "ada 2" } },
    ],
  },
  {
    query: "query ($order: [PersonOrderBy!]) { allPeople(orderBy: $order) { nodes { name } } }",
    variables: [
      {},
      { order: null },
      { order: [] },
      { order: ["NAME_DESC"] },
      { order: ["ROW_ID_DESC", "NAME_ASC"] },
    ],
  },
  {
    query: `query ($first: Int, $after: Cursor, $before: Cursor) {
      allPeople(first: $first, after: $after, before: $before) { nodes { rowId } pageInfo { hasNextPage endCursor } } }`,
    variables: [
      {},
      { first: 2, after: "<1>" },
      { first: 2, after: "<2>" },
      { first: 2, before: "<4>" },
      { after: "<1>", before: "<4>" },
      { after: "nonsense" },
      { after: null },
    ],
  },
  {
    query: "query ($feeling: Mood) { peopleIn(feeling: $feeling, first: 3) { nodes { name } } }",
    variables: [{ feeling: "happy" }, { feeling: "sad" }, { feeling: null }, {}],
  },
  { query: "{ own { rowId name } }", variables: [{}] },
  { query: "{ cast { edges { cursor } } }", variables: [{}] },
  { query: "{ joined { name } }", variables: [{}] },
  {
    query: "query ($name: String) { taken(name: $name) { name } }",
    variables: [{ name: "ada 1" }, { name: "bob 1" }],
  },
  { query: "{ ranked { name } }", variables: [{}] },
  { query: "{ own { name } ordered { rowId name } }", variables: [{}] },
  {
    query: "query ($by: Int) { divide(by: $by) allPeople { nodes { rowId } } }",
    variables: [{ by: 1 }, { by: 0 }],
  },
  {
    query: `query ($first: Int, $last: Int, $offset: Int) { allPeople(first: $first, last: $last, offset: $offset) {
      nodes { rowId } totalCount pageInfo { hasNextPage hasPreviousPage } } }`,
    variables: [
      { first: 0 },
      { last: 0 },
      { last: 2, offset: 1 },
      { first: -1 },
      { first: 1, last: 1, offset: 1 },
    ],
  },
  {
    query: `mutation ($mood: Mood) { updatePersonByRowId(input: { rowId: 1, personPatch: { mood: $mood } }) {
      person { name petsByOwnerId { nodes { name } } } query { allPeople(first: 2) { nodes { name } } } } }`,
    variables: [{ mood: "happy" }],
  },
];

const added = `mutation ($person: PersonInput!) { createPerson(input: { clientMutationId: "c", person: $person }) {
  clientMutationId person { name mood email tags extra age { start { value } } home { town } } } }`;
const changed = `mutation ($id: Int!, $patch: PersonPatch!) {
  updatePersonByRowId(input: { rowId: $id, clientMutationId: "u", personPatch: $patch }) {
    clientMutationId person { rowId name mood email tags extra } } }`;

/** To be run in this order, on a newly made tenant. */
export const changeCases: readonly SelectCase[] = [
  {
    query: added,
    variables: [
      { person: { name: "one" } },
      { person: { name: "two" } },
      { person: { name: "three", mood: "sad" } },
      { person: { mood: "happy", name: "four" } },
      { person: { name: "five", mood: null } },
      { person: { name: "six", email: "six@here", tags: ["a", null, "b'\""], extra: { deep: [1, null] } } },
      { person: { name: "seven", home: { town: "there" }, age: { start: { value: 1, inclusive: true } } } },
      { person: { name: "eight", email: "no address" } },
      { person: { name: "nine" } },
    ],
  },
  {
    query: changed,
    variables: [
      { id: 1, patch: { name: "first" } },
      { id: 2, patch: { name: "second" } },
      { id: 2, patch: { mood: "sad" } },
      { id: 3, patch: { name: "third", mood: null, tags: [] } },
      { id: 3, patch: { tags: ["x"], name: "again" } },
      { id: 3, patch: {} },
      { id: 99, patch: { name: "nobody" } },
      { id: 1, patch: { name: null } },
      { id: 4, patch: { name: "fourth" } },
    ],
  },
  {
    query: `mutation ($name: String!) {
      a: createPet(input: { pet: { name: $name, ownerId: 1 } }) { pet { name personByOwnerId { name } } }
      b: createPet(input: { pet: { name: "b", ownerId: 2 } }) { pet { name personByOwnerId { name } } }
      c: createPet(input: { pet: { ownerId: 3, name: $name } }) { pet { ...own } }
      d: deletePetByRowId(input: { rowId: 5 }) { pet { name } }
    } fragment own on Pet { name ownerId }`,
    variables: [{ name: "first" }, { name: "second" }],
  },
  {
    query: `mutation ($name: String) { stamped(name: $name) { name mood email } marked(id: 2) }`,
    variables: [{ name: "given" }, {}, { name: null }, { name: "given again" }],
  },
];
