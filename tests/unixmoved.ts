/** Serves on the Unix socket that the argument names, goes to the folder `other`, and stops there. */

import { existsSync } from "node:fs";
import { resolve } from "node:path";
import process from "node:process";
import { serve } from "../server.ts";

const unix = process.argv[2]!, path = resolve(unix);
const server = serve(() => ({}), { unix });
console.log("socket", Number(existsSync(path)));
process.chdir("other");
await server.shutdown();
console.log("stopped", Number(existsSync(path)));
