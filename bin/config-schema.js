// Writes the JSON schema that the package ships. Part of `npm run build`; run it when the config gets new keys.
import { writeFileSync } from "node:fs";
import { load } from "./load.js";

const { configJsonSchema } = await load("src/config/json-schema");
const file = new URL("../config.schema.json", import.meta.url);
writeFileSync(file, `${JSON.stringify(configJsonSchema(), null, 2)}\n`);
