// Part of `npm run build`, and to be run when the config has new keys: the JSON schema that the package ships.
import { writeFileSync } from "node:fs";
import { load } from "./load.js";

const { configJsonSchema } = await load("src/config/json-schema");
const file = new URL("../config.schema.json", import.meta.url);
writeFileSync(file, `${JSON.stringify(configJsonSchema(), null, 2)}\n`);
