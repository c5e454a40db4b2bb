// A GraphQL Yoga server: a query, a mutation, and a subscription as server-sent events.
// On Deno it needs --allow-env.
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { createSchema, createYoga } from "graphql-yoga@5";
import { type FetchInfo, serve } from "../../server.ts";

const notes: string[] = [];
const yoga = createYoga<FetchInfo>({
  schema: createSchema<FetchInfo>({
    typeDefs: /* GraphQL */ `
      type Query {
        hello(name: String = "stranger"): String!
        notes: [String!]!
        peer: String!
      }
      type Mutation {
        addNote(text: String!): Int!
      }
      type Subscription {
        countdown(from: Int!): Int!
      }
    `,
    resolvers: {
      Query: {
        hello: (_parent, { name }: { name: string }) => `Hello from Yoga, ${name}`,
        notes: () => notes,
        peer: (_parent, _args, { remoteAddr }) => remoteAddr.hostname,
      },
      Mutation: { addNote: (_parent, { text }: { text: string }) => notes.push(text) },
      Subscription: {
        countdown: {
          subscribe: async function* (_parent: unknown, { from }: { from: number }) {
            try {
              for (let i = from; i >= 0; i--) {
                yield { countdown: i };
                await setTimeout(10);
              }
            } finally {
              console.log("A reader has left");
            }
          },
        },
      },
    },
  }),
});

const port = Number(process.argv[2] ?? 8080);
const server = serve(yoga, { port, maxBodySize: 1000, log: console });
await server.finished;
