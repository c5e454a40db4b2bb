// Deno's own server with the files of a folder, which looks at nothing but the path.
const [port, folder] = Deno.args;

Deno.serve({ hostname: "127.0.0.1", port: Number(port), onListen: () => {} }, async (request) => {
  const file = await Deno.open(folder + new URL(request.url).pathname);
  const { size } = await file.stat();
  return new Response(file.readable, { headers: { "Content-Length": `${size}` } });
});
