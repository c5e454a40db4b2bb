export type Answer = number | {
  status: number;
  body?: string;
  fields?: Record<string, string | null>;
};
export interface Vector {
  section: string;
  name: string;
  send: string;
  answers: Answer[];
  closes: boolean;
}
export const VECTORS: Vector[] = [{
  section: "x",
  name: "y",
  send: "GET /book HTTP/1.1\r\nHost: a\r\n\r\n",
  answers: [200],
  closes: false,
}];
