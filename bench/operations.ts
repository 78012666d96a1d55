/** What the servers are asked, in the tables of `database.ts`. */
export const operations = {
  typename: "{ __typename }",
  "one row": "{ t1ItemByRowId(rowId: 3) { rowId name mood amount } }",
  "one query": "{ allT1Items(first: 10, orderBy: PRIMARY_KEY_ASC) { nodes { rowId name mood amount } } }",
  nested: "{ allT3Items(first: 5) { nodes { name t2ItemByParentId { name t1ItemByParentId { name } } } } }",
  mutation:
    'mutation { createT1Item(input: { t1Item: { name: "made", amount: "1.5" } }) { t1Item { name amount } } }',
} as const;
