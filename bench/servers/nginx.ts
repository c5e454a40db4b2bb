import { big, book, headers } from "./app.ts";

/** The files that are served as files. */
export const FILES = { "small.css": "x".repeat(1024), "large.css": "x".repeat(big.length) };
export function writeFiles(directory: string): void {
  for (const [name, text] of Object.entries(FILES)) {
    Deno.writeTextFileSync(`${directory}/${name}`, text);
  }
}

/** Writes a configuration for nginx that holds the answer to `GET /book`, and tells its path. The
 * megabyte is a file, as nginx is used. */
export function configureNginx(port: number, directory: string): string {
  const quote = (text: string) => `'${text.replace(/[\\']/g, "\\$&")}'`;
  const { "Content-Type": type, ...fields } = headers.book;
  const added = Object.entries(fields).map(([name, value]) =>
    `add_header ${name} ${quote(value)};`
  );
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${directory};`);
  Deno.writeFileSync(`${directory}/big`, big);
  const path = `${directory}/nginx.conf`;
  Deno.writeTextFileSync(
    path,
    `
daemon off;
master_process off; # one process, whose time is all the time
pid ${directory}/nginx.pid;
worker_rlimit_nofile 20000;
events { worker_connections 16384; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  ${temporary.join("\n  ")}
  server {
    listen 127.0.0.1:${port} backlog=511;
    location = /book {
      default_type ${type};
      ${added.join("\n      ")}
      return 200 ${quote(book)};
    }
    location = /big { root ${directory}; }
    location / { root ${directory}; }
  }
}
`,
  );
  return path;
}
