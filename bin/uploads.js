// `rowhouse/plugins/uploads`.
import { load } from "./load.js";

export const { uploads } = await load("workers/plugins/uploads");
