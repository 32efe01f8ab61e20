// The digests of docs/format.md in JavaScript, written from that page alone and with nothing but node's own library.
//
//     node digests.mjs FILE
//
// FILE holds {"cases": [{"spec": …, "rows": […]}]} as tests/golden/digest_vectors.json does; printed are the leaves
// and digests of every case as JSON.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const MODULUS = 1n << 256n;

function uint32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function text(value) {
  if (value === null || value === undefined) return Buffer.from([0xff, 0xff, 0xff, 0xff]);
  const bytes = Buffer.from(value, "utf8");
  return Buffer.concat([uint32(bytes.length), bytes]);
}

// A number is a JSON number, or "bits:HEX" with its bit pattern, most significant digit first.
function bitsOf(value) {
  return typeof value === "string" ? BigInt("0x" + value.slice("bits:".length)) : null;
}

// The bit pattern of a number that IEEE 754 half precision holds exactly.
function halfBits(value) {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (magnitude === 0) return sign;
  if (magnitude === Infinity) return sign | 0x7c00;
  let exponent = Math.floor(Math.log2(magnitude));
  if (2 ** exponent > magnitude) exponent -= 1;
  if (exponent < -14) return sign | (magnitude * 2 ** 24);
  return sign | ((exponent + 15) << 10) | ((magnitude / 2 ** exponent - 1) * 1024);
}

const WRITERS = {
  float16: [2, (bytes, at, value) => bytes.writeUInt16LE(halfBits(value), at)],
  float32: [4, (bytes, at, value) => bytes.writeFloatLE(value, at)],
  float64: [8, (bytes, at, value) => bytes.writeDoubleLE(value, at)],
  int8: [1, (bytes, at, value) => bytes.writeInt8(value, at)],
  binary: [1, (bytes, at, value) => bytes.writeUInt8(value, at)],
};

function number(value, dtype) {
  const [width, write] = WRITERS[dtype];
  const bytes = Buffer.alloc(width);
  let bits = bitsOf(value);
  if (bits === null) {
    write(bytes, 0, value);
  } else {
    for (let at = 0; at < width; at++, bits >>= 8n) bytes[at] = Number(bits & 0xffn);
  }
  return bytes;
}

function numbers(values, dtype) {
  return Buffer.concat(values.map((value) => number(value, dtype)));
}

function vectorContent(field, value) {
  const head = Buffer.concat([text(field.name), text(field.kind), text(field.dtype)]);
  if (value === null) return Buffer.concat([head, Buffer.from([0])]);
  const parts = [head, Buffer.from([1])];
  if (field.kind === "dense") {
    parts.push(uint32(field.dimensions), numbers(value, field.dtype));
  } else if (field.kind === "multi") {
    parts.push(uint32(value.length), uint32(field.dimensions));
    for (const vector of value) parts.push(numbers(vector, field.dtype));
  } else {
    const pairs = value.indices.map((index, at) => [index, number(value.values[at], field.dtype)]);
    pairs.sort((a, b) => a[0] - b[0] || a[1].readUInt32LE() - b[1].readUInt32LE());
    parts.push(uint32(pairs.length));
    for (const [index] of pairs) parts.push(uint32(index));
    for (const [, bytes] of pairs) parts.push(bytes);
  }
  return Buffer.concat(parts);
}

function leaf(domain, row, content) {
  const hash = createHash("sha256");
  hash.update(Buffer.from(`exitramp-digest-1 ${domain}\n`, "ascii"));
  hash.update(text(row.namespace));
  hash.update(text(row.id));
  hash.update(content);
  return hash.digest("hex");
}

function column(field) {
  if (field.kind !== "dense") return `${field.kind}:${field.name}`;
  return field.name === "" ? "vector" : `vector:${field.name}`;
}

function sum(leaves) {
  const total = leaves.reduce((before, hex) => (before + BigInt("0x" + hex)) % MODULUS, 0n);
  return total.toString(16).padStart(64, "0");
}

function digestsOf({ spec, rows }) {
  const leaves = rows.map((row) => ({
    ids: leaf("ids", row, Buffer.alloc(0)),
    payloads: leaf("payloads", row, Buffer.concat([text(row.document), text(row.payload)])),
    vectors: Object.fromEntries(
      spec.vectors.map((field) => {
        const value = row.vectors[column(field)];
        return [column(field), leaf("vectors", row, vectorContent(field, value))];
      }),
    ),
  }));
  const vectors = spec.vectors.map((field) => {
    return [column(field), sum(leaves.map((row) => row.vectors[column(field)]))];
  });
  const digests = {
    rows: rows.length,
    ids: sum(leaves.map((row) => row.ids)),
    payloads: sum(leaves.map((row) => row.payloads)),
    vectors: Object.fromEntries(vectors),
  };
  return { leaves, digests };
}

const { cases } = JSON.parse(readFileSync(process.argv[2], "utf8"));
console.log(JSON.stringify(cases.map(digestsOf)));
