// The student over gRPC. Messages become what they are over HTTP, by the descriptors that protoc makes of bridge.proto.

import { createFileRegistry, fromBinary, fromJson, toBinary, toJson } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema, file_google_protobuf_struct as struct } from "@bufbuild/protobuf/wkt";
import { Server, ServerCredentials, status } from "@grpc/grpc-js";
import { readFileSync } from "node:fs";
import { answer, LARGEST_MESSAGE } from "./student.js";

const CONTRACT = process.env.BRIDGE_CONTRACT ?? new URL("../../../simba_actors/bridge/bridge.binpb", import.meta.url);

export function serve(address: string) {
  const [file] = fromBinary(FileDescriptorSetSchema, readFileSync(CONTRACT)).file;
  const service = createFileRegistry(file, () => struct).getService("simba_actors.bridge.Student")!;
  const server = new Server({ "grpc.max_receive_message_length": LARGEST_MESSAGE });
  for (const { name, input, output } of service.methods) {
    const serialize = (reply: any) => Buffer.from(toBinary(output, fromJson(output, reply)));
    const deserialize = (bytes: Buffer) => toJson(input, fromBinary(input, bytes));
    const handle = ({ request, metadata }: any, done: any) =>
      answer(name, request, metadata.get("authorization")[0]).then(
        (reply) => done(null, reply),
        ({ code = "internal", message }) => done({ code: status[code.toUpperCase()], details: message }),
      );
    server.register(`/${service.typeName}/${name}`, handle, serialize, deserialize, "unary");
  }
  server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) => {
    if (error) throw error;
    console.log(`grpc://${address.split(":")[0]}:${port}`);
  });
}
