// The same methods over gRPC. protobufjs gives a Struct field by field; here it is a plain object, as in JSON.

import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import protobuf from "protobufjs";
import { answer as answerTo, refusalOf } from "./student.js";

const PROTO = process.env.BRIDGE_PROTO ?? new URL("../../../simba_actors/bridge/bridge.proto", import.meta.url).pathname;

const valueOf = (json: unknown): object => {
  if (json === null || json === undefined) return { nullValue: 0 };
  if (Array.isArray(json)) return { listValue: { values: json.map(valueOf) } };
  if (typeof json === "object") return { structValue: json };
  return { [`${typeof json === "boolean" ? "bool" : typeof json}Value`]: json };
};

// `this` has protobufjs's own conversions of the type.
const wrappers = protobuf.wrappers as Record<string, any>;
wrappers[".google.protobuf.Struct"] = {
  fromObject(this: any, json: object) {
    return this.fromObject({ fields: Object.fromEntries(Object.entries(json).map(([name, value]) => [name, valueOf(value)])) });
  },
  toObject(this: any, message: any, options: object) {
    return this.toObject(message, options).fields ?? {};
  },
};
wrappers[".google.protobuf.Value"] = {
  fromObject(this: any, value: object) {
    return this.fromObject(value);
  },
  toObject(this: any, message: any, options: object) {
    const value = this.toObject(message, { ...options, oneofs: true, defaults: false });
    return value.kind === "nullValue" ? null : value[value.kind];
  },
};
wrappers[".google.protobuf.ListValue"] = {
  fromObject(this: any, list: object) {
    return this.fromObject(list);
  },
  toObject(this: any, message: any, options: object) {
    return this.toObject(message, options).values ?? [];
  },
};

export function serve(host: string, port: string): Promise<number> {
  const definition = loadSync(PROTO, { enums: String, longs: Number });
  const { simba_actors } = grpc.loadPackageDefinition(definition) as any;
  const server = new grpc.Server({ "grpc.max_receive_message_length": 16 * 1024 * 1024 });
  const { service } = simba_actors.bridge.Student;
  const handlers = Object.keys(service).map((name) => [
    name,
    async (call: any, answer: any) => {
      try {
        answer(null, await answerTo(name, call.request, call.metadata.get("authorization")[0]));
      } catch (error) {
        const refusal = refusalOf(error);
        const metadata = new grpc.Metadata();
        if (refusal.code === "resource_exhausted") metadata.set("retry-after", "0.5");
        const name = refusal.code === "canceled" ? "CANCELLED" : refusal.code.toUpperCase();
        answer({ code: grpc.status[name as keyof typeof grpc.status], details: refusal.message, metadata });
      }
    },
  ]);
  server.addService(service, Object.fromEntries(handlers));
  return new Promise((resolve, reject) =>
    server.bindAsync(`${host}:${port}`, grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
}
