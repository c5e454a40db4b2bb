// This server with the files of a folder.
import process from "node:process";
import { files } from "../../extras/files.ts";
import { serve } from "../../server.ts";

await serve(files(process.argv[3] ?? "."), { port: Number(process.argv[2]) }).finished;
